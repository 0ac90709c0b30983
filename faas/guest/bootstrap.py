"""Starts the runtime: ``bootstrap.py HANDLER DATA_LIMIT PROCESSES``, as ``/var/runtime``'s own.

awslambdaric itself stays as it was published. The limits are set here, in the runtime's process,
and hooks make sure that no two clones of one snapshot draw the same random numbers.
"""

import contextlib
import importlib
import os
import random
import resource
import sys
from pathlib import Path

MOST_LIKELY_KILLED = "1000"
"""When memory runs out the kernel ends the runtime and not the agent."""


def reseed() -> None:
    """Give this process's generators new seeds."""
    random.seed()
    if "_ssl" in sys.modules:
        sys.modules["_ssl"].RAND_add(os.urandom(32), 32.0)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None  # type: ignore[attr-defined]


def _limit(kind: int, most: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))


def main() -> None:
    """Become the runtime; never returns while it lives."""
    _, handler, data_limit, processes = sys.argv
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(MOST_LIKELY_KILLED)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, int(processes))
    if int(data_limit):
        _limit(resource.RLIMIT_DATA, int(data_limit))
    sys.argv = ["bootstrap.py", handler]
    sys.path[:0] = ["/var/task", "/opt/python", "/var/runtime"]

    importlib.import_module("snapshot_restore_py").register_after_restore(reseed)
    importlib.import_module("awslambdaric.__main__").main(sys.argv)


if __name__ == "__main__":
    main()
