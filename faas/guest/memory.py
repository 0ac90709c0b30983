"""How much memory a function's processes have used. It runs in each call, so it is spare."""

import contextlib
import os
from collections.abc import Iterable, Iterator

_READ = 8192
_PEAK = b"VmHWM:"


def peak_kib(pids: Iterable[int]) -> int:
    """Return the sum of the most memory that each of ``pids`` and its children has held.

    Children that have ended are not counted, and pages that two share count twice.
    """
    return sum(_peak(pid) for pid in _with_children(pids))


def _with_children(pids: Iterable[int]) -> Iterator[int]:
    pending = list(pids)
    while pending:
        pid = pending.pop()
        yield pid
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                pending += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


def _peak(pid: int) -> int:
    _, found, rest = _read(f"/proc/{pid}/status").partition(_PEAK)
    return int(rest.split(None, 1)[0]) if found else 0


def _read(path: str) -> bytes:
    """Return the content of a small file; nothing when it is gone."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, _READ)
    except OSError:
        return b""
    finally:
        os.close(file)
