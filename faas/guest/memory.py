"""How much memory a function's processes have used. It runs in each call, so it is spare."""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator

_READ = 8192
_PEAK = b"VmHWM:"
_KERNEL_LOG = "/dev/kmsg"


class Peak:
    """Looks at the processes of one function and their children, again and again.

    What it reads stays open, and it looks for children only when a process has begun since.
    """

    def __init__(self) -> None:
        self._load = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        self._seen: tuple[bytes, tuple[int, ...]] = (b"", ())
        self._statuses: dict[int, int] = {}
        self._turn = threading.Lock()

    def kib(self, pids: Iterable[int]) -> int:
        """Return the sum of the most memory that each of ``pids`` and its children has held.

        Children that have ended are not counted, and pages that two share count twice.
        """
        with self._turn:
            newest = os.pread(self._load, _READ, 0).rsplit(None, 1)[-1]
            seen = newest, tuple(pids)
            if seen != self._seen:
                self._seen = seen
                self._look(seen[1])
            return sum(_peak(status) for status in self._statuses.values())

    def _look(self, pids: Iterable[int]) -> None:
        for status in self._statuses.values():
            os.close(status)
        self._statuses = {}
        pending = list(pids)
        while pending:
            pid = pending.pop()
            with contextlib.suppress(OSError):
                status = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
                self._statuses[pid] = status
                for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                    pending += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


def killed_for_memory(pid: int) -> bool:
    """Return whether this machine's kernel says that it killed ``pid`` for want of memory.

    Its log names the process, so that one that killed itself is told apart. A sandbox does not
    show the log: there the host knows.

    Source: https://docs.kernel.org/admin-guide/abi-testing-files.html (/dev/kmsg)
    """
    said = b"Killed process %d " % pid
    try:
        log = os.open(_KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return any(said in record for record in _records(log))
    finally:
        os.close(log)


def _records(log: int) -> Iterator[bytes]:
    """Yield what the kernel said, one record at a time; those overwritten meanwhile are lost."""
    while True:
        try:
            yield os.read(log, _READ)
        except BrokenPipeError:
            continue
        except BlockingIOError:
            return


def _peak(status: int) -> int:
    """Return the peak of the process whose status is open; 0 when it has ended."""
    try:
        _, found, rest = os.pread(status, _READ, 0).partition(_PEAK)
    except OSError:
        return 0
    return int(rest.split(None, 1)[0]) if found else 0


def _read(path: str) -> bytes:
    """Return the content of a small file; nothing when it is gone."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, _READ)
    except OSError:
        return b""
    finally:
        os.close(file)
