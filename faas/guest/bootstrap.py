"""Starts Python's runtime: ``bootstrap.py HANDLER``, as ``/var/runtime``'s own.

awslambdaric itself stays as it was published. A hook makes sure that no two clones of one
snapshot draw the same random numbers.
"""

import importlib
import os
import random
import sys

_SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def reseed() -> None:
    """Give this process's generators new seeds."""
    random.seed()
    if "_ssl" in sys.modules:
        sys.modules["_ssl"].RAND_add(os.urandom(32), 32.0)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None  # type: ignore[attr-defined]


def main() -> None:
    """Become the runtime; never returns while it lives."""
    sys.path[:0] = ["/var/task", f"/opt/python/{_SITE}", "/opt/python", "/var/runtime"]
    importlib.import_module("snapshot_restore_py").register_after_restore(reseed)
    importlib.import_module("awslambdaric.__main__").main(sys.argv)


if __name__ == "__main__":
    main()
