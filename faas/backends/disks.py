"""Disks of guests, made once for each content and shared by versions and instances."""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faas.backends import maker
from faas.backends.sparse import linked, sparse_copy
from faas.image.built import used
from faas.image.disk import blank_ext4, ext4
from faas.image.layers import merged
from faas.vm import Launch

CAPACITY = {"code": 512 << 20, "layers": 512 << 20, "language": 16 << 30}
"""Bytes that each disk shows, in the order of the devices.

A saved VM holds the sizes of its disks, so all disks of a kind have the same; a file is no bigger
than its content.
"""

TMP_CAPACITY = 11 << 30
"""Bytes that the disk for ``/tmp`` shows; its file system is of the size that was asked for."""

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

    async def tmp(self, mib: int) -> Path:
        """Return a disk with an empty file system for ``/tmp``, to be copied."""
        name = hashlib.sha256(repr((_RECIPE, "tmp", mib)).encode()).hexdigest()[:32]
        made = self._cache / f"{_KIND}{name}"
        async with self._turns.setdefault(name, asyncio.Lock()):
            if not await asyncio.to_thread(used, made):
                await self._make(made, partial(blank_ext4, mib=mib, capacity=TMP_CAPACITY))
        return made / "disk"

    async def _one(self, content: Content, target: Path) -> str:
        key = await asyncio.to_thread(content.key, self._cache)
        made = self._cache / f"{_KIND}{key}"
        async with self._turns.setdefault(key, asyncio.Lock()):
            if not await asyncio.to_thread(used, made):
                await self._make(made, partial(self._write, content))
        await asyncio.to_thread(linked, made / "disk", target)
        return key

    async def _make(self, made: Path, write: Callable[[Path], Awaitable[None]]) -> None:
        async with _alone(self._cache / "disk.lock"):
            if await asyncio.to_thread(made.exists):
                return
            scratch = maker.scratch(self._cache, made.name)
            try:
                await write(scratch / "disk")
                await asyncio.to_thread(scratch.rename, made)
            finally:
                await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _write(self, content: Content, disk: Path) -> None:
        capacity = CAPACITY[content.name]
        folder = await asyncio.to_thread(merged, content.folders, self._cache)
        if folder is not None:
            await ext4(folder, disk, capacity=capacity)
        else:
            with disk.open("wb") as blank:
                blank.truncate(capacity)


def tmp_copy(disk: Path | None, target: Path, user: int | None) -> None:
    """Copy a disk for ``/tmp`` for one VM that ``user`` runs.

    Args:
        disk: What to copy; None: a disk without a file system.
        target: Takes the place of what is there.
        user: Whose it is; None: ours.
    """
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    if disk is None:
        os.truncate(target, TMP_CAPACITY)
    else:
        sparse_copy(disk, target)
    if user is not None:
        os.chown(target, user, user)


def _joined(keys: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold a lock that all processes heed which share the cache."""
    with path.open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
