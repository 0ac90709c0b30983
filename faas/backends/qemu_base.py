"""Saved VMs without a function, one for each size of memory, kept in the cache."""

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from faas.image.built import used

Make = Callable[[Path, int], Awaitable[None]]


_ELSEWHERE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""What the kernel says when it cannot copy between these two file systems."""

_PIECE = 1 << 20


class Bases:
    """Makes each base once, for all processes that share the cache.

    Args:
        cache: Where they are kept.
        make: Boots a VM of so many MiB and saves it in a folder.
        key: Whatever a base depends on besides its memory.
    """

    def __init__(self, cache: Path, make: Make, *, key: str) -> None:
        self._cache = cache
        self._make = make
        self._key = key
        self._turn = asyncio.Lock()

    async def of(self, memory_mib: int) -> Path:
        """Return the folder with ``memory`` and ``state`` of a VM of ``memory_mib``."""
        folder = self._cache / f"base-{self._key}-{memory_mib}"
        if await asyncio.to_thread(used, folder):
            return folder
        async with self._turn:
            with (self._cache / "base.lock").open("w") as lock:
                await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
                if not folder.exists():
                    await self._made(folder, memory_mib)
        return folder

    async def _made(self, folder: Path, memory_mib: int) -> None:
        scratch = Path(tempfile.mkdtemp(prefix="base-", suffix=".partial", dir=self._cache))
        try:
            await self._make(scratch, memory_mib)
            await asyncio.to_thread(scratch.rename, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def sparse_copy(source: Path, target: Path) -> None:
    """Copy a file without its holes, in the kernel where both ends are on one file system."""
    with source.open("rb") as original, target.open("wb") as copy:
        size = os.fstat(original.fileno()).st_size
        copy.truncate(size)
        start = 0
        while (start := _next(original.fileno(), start, os.SEEK_DATA)) < size:
            end = _next(original.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += _copied(original.fileno(), copy.fileno(), start, end - start)


def _copied(source: int, target: int, at: int, size: int) -> int:
    """Copy at most ``size`` bytes at ``at``; return how many."""
    try:
        return os.copy_file_range(source, target, size, at, at)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
    return os.pwrite(target, os.pread(source, min(size, _PIECE), at), at)


def _next(file: int, at: int, what: int) -> int:
    """Return where data or a hole next begins; the end of the file when none does."""
    try:
        return os.lseek(file, at, what)
    except OSError:
        return os.fstat(file).st_size
