"""Disks of guests, made once for each content and shared by versions and instances."""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from faas.backends import maker
from faas.backends.sparse import linked
from faas.image.built import used
from faas.image.disk import ext4
from faas.image.layers import merged
from faas.vm import Launch

CAPACITY = {"code": 512 << 20, "layers": 512 << 20, "language": 16 << 30}
"""Bytes that each disk shows, in the order of the devices.

A saved VM holds the sizes of its disks, so all disks of a kind have the same; a file is no bigger
than its content.
"""

_KIND = "disk-"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RECIPE = "2"
"""Changes when the way from content to disk does."""


@dataclass(frozen=True, slots=True)
class Content:
    """What goes on one disk.

    Attributes:
        name: ``code``, ``layers`` or ``language``.
        folders: Merged in order, files of later ones win; none: a blank disk.
    """

    name: str
    folders: tuple[Path, ...]

    def key(self, cache: Path) -> str:
        """Return a name for the content. Blocks on the disk."""
        parts = (_RECIPE, self.name, *(identity(folder, cache) for folder in self.folders))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def contents(launch: Launch, language: Path | None) -> tuple[Content, ...]:
    """Return what the disks of ``launch`` hold, in the order of the devices.

    Args:
        launch: What will run.
        language: Folder with the runtime's language, None: the guest's own Python serves. A
            container's root takes its place.
    """
    container = launch.container
    code = () if container else (launch.code,)
    root = container.root if container else language
    return (
        Content("code", code),
        Content("layers", launch.layers),
        Content("language", () if root is None else (root,)),
    )


def identity(folder: Path, cache: Path) -> str:
    """Return a name for what ``folder`` holds.

    Packages and images are kept under their digest, and what is in the cache under a name of its
    content; any other folder is read.
    """
    if folder.is_relative_to(cache):
        return str(folder.relative_to(cache))
    for place, part in enumerate(folder.parts):
        if _DIGEST.fullmatch(part):
            return "/".join(folder.parts[place:])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        digest.update(f"{path.relative_to(folder)}\0{state.st_mode:o}\0".encode())
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class Disks:
    """Makes disks and puts them beside VMs.

    Args:
        cache: Where they are kept, for all processes that share it; `faas.image.built.pruned`
            removes what nobody used for long.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._turns: dict[str, asyncio.Lock] = {}

    def key(self, wanted: Sequence[Content]) -> str:
        """Return a name for all of ``wanted``. Blocks on the disk."""
        return _joined(content.key(self._cache) for content in wanted)

    async def put(self, wanted: Sequence[Content], folder: Path) -> str:
        """Put disks into ``folder`` under their contents' names; return a name for all of them.

        They are links, so a disk stays while a VM or an image has it.

        Raises:
            BootFailed: The content does not fit.
        """
        keys = [await self._one(content, folder / content.name) for content in wanted]
        return _joined(keys)

    async def _one(self, content: Content, target: Path) -> str:
        key = await asyncio.to_thread(content.key, self._cache)
        made = self._cache / f"{_KIND}{key}"
        async with self._turns.setdefault(key, asyncio.Lock()):
            if not await asyncio.to_thread(used, made):
                await self._make(content, made)
        await asyncio.to_thread(linked, made / "disk", target)
        return key

    async def _make(self, content: Content, made: Path) -> None:
        async with _alone(self._cache / "disk.lock"):
            if await asyncio.to_thread(made.exists):
                return
            scratch = maker.scratch(self._cache, made.name)
            try:
                await self._write(content, scratch)
                await asyncio.to_thread(scratch.rename, made)
            finally:
                await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _write(self, content: Content, scratch: Path) -> None:
        capacity = CAPACITY[content.name]
        disk = scratch / "disk"
        folder = await asyncio.to_thread(merged, content.folders, self._cache)
        if folder is not None:
            await ext4(folder, disk, capacity=capacity)
        else:
            with disk.open("wb") as blank:
                blank.truncate(capacity)


def _joined(keys: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold a lock that all processes heed which share the cache."""
    with path.open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
