"""Saved VMs without a function, one for each size of memory, kept in the cache."""

import asyncio
import fcntl
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from faas.backends import maker
from faas.image.built import used

Make = Callable[[Path, int], Awaitable[None]]


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
        scratch = maker.scratch(self._cache, folder.name)
        try:
            await self._make(scratch, memory_mib)
            await asyncio.to_thread(scratch.rename, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
