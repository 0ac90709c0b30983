"""Starts Python's runtime: ``bootstrap.py HANDLER``, as ``/var/runtime``'s own.

awslambdaric itself stays as it was published. Hooks make sure that no two clones of one snapshot
draw the same random numbers, and that a clone has little left to do before its first call: what
it needs for that is done before the snapshot.
"""

import importlib
import os
import random
import socket
import sys

_SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
_HOSTS_OWN = ("site-packages", "dist-packages")
"""What is installed for the host's Python; a function finds only what it brings."""
_WAIT = b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: runtime\r\n\r\n"
_GO = b"HTTP/1.1 200 "
_READ = 4096


def reseed() -> None:
    """Give this process's generators new seeds."""
    random.seed()
    if "_ssl" in sys.modules:
        sys.modules["_ssl"].RAND_add(os.urandom(32), 32.0)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None  # type: ignore[attr-defined]


def rehearse() -> None:
    """Open the connection over which calls come, and answer one that never came.

    What an answer takes is then in memory before the snapshot.
    """
    client = sys.modules["runtime_client"]
    client.post_invocation_result("rehearsal", b"", "application/json", None)


def wait(_client: object) -> None:
    """Wait at the restore point, in place of awslambdaric's own way.

    That loads a client for HTTP and ends a connection, both in the time of the first call.
    """
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(_WAIT)
    said = connection.recv(_READ)
    if not said.startswith(_GO):
        raise ConnectionError(f"restore point: {said[:80]!r}, expected status 200")
    connection.detach()


def main() -> None:
    """Become the runtime; never returns while it lives."""
    sys.path[:] = [path for path in sys.path if not path.endswith(_HOSTS_OWN)]
    sys.path[:0] = ["/var/task", f"/opt/python/{_SITE}", "/opt/python", "/var/runtime"]
    snapshots = importlib.import_module("snapshot_restore_py")
    snapshots.register_before_snapshot(rehearse)
    snapshots.register_after_restore(reseed)
    importlib.import_module(
        "awslambdaric.lambda_runtime_client"
    ).LambdaRuntimeClient.restore_next = wait
    importlib.import_module("awslambdaric.__main__").main(sys.argv)


if __name__ == "__main__":
    main()
