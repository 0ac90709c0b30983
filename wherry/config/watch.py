"""The World that serves, replaced whole when the files change and are good."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from watchfiles import awatch

from wherry.config import SUFFIXES, files, load
from wherry.errors import ConfigError
from wherry.model.world import World

logger = logging.getLogger(__name__)

QUIET = 0.02
"""Seconds for which files must not have changed before they are taken."""

ATTEMPTS = 100
"""How often files that change while they are read are read again; then the next change counts."""

LOOK = 0.5
"""Seconds between two looks at the files, besides what the kernel tells."""


_Stamps = Mapping[Path, tuple[int, ...]]
"""What tells one content of each file from another, without reading it."""


class Worlds:
    """The current `World` and its successors.

    Attributes:
        current: The last good one.
        refused: Why the newest files are not in use, or None while they are.
        turn: Held by who reads anew, so that an older reading never follows a newer one.
    """

    def __init__(self, first: World) -> None:
        self.current = first
        self.refused: ConfigError | None = None
        self.turn = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._generation = 0

    async def replace(self, world: World) -> None:
        """Make ``world`` the current one."""
        async with self._changed:
            self.current, self.refused = world, None
            self._generation += 1
            self._changed.notify_all()

    async def follow(self) -> AsyncGenerator[World]:
        """Yield the current World and each later one; a slow reader gets only the newest."""
        seen = -1
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._generation != seen)  # noqa: B023
                seen, world = self._generation, self.current
            yield world


async def watch(source: Path, worlds: Worlds, *, read: Callable[[Path], World] = load) -> None:
    """Reload ``source`` into ``worlds`` whenever a YAML file of it changes, until cancelled.

    Files that are wrong are refused whole: `Worlds.current` stays, the reasons are logged. The
    files are also compared every `LOOK` seconds: a change before the watch began, or one that
    the kernel did not tell, is not missed.
    """
    folder = source if await asyncio.to_thread(source.is_dir) else source.parent
    changes = awatch(
        folder,
        watch_filter=lambda _, path: Path(path).suffix in SUFFIXES,
        debounce=100,
        step=20,
        recursive=False,
        rust_timeout=int(LOOK * 1000),
        yield_on_timeout=True,
    )
    seen: _Stamps | None = None
    async for _ in changes:
        stamps = await asyncio.to_thread(_stamps, source)
        if stamps != seen:
            await reload(source, worlds, read=read)
            seen = stamps


async def reload(source: Path, worlds: Worlds, *, read: Callable[[Path], World] = load) -> None:
    """Read ``source`` and replace the current World if it is good.

    Files that change while they are read are read again: an editor empties a file before it
    writes, and an empty file is a valid World without services.
    """
    async with worlds.turn:
        await _reload(source, worlds, read)


async def _reload(source: Path, worlds: Worlds, read: Callable[[Path], World]) -> None:
    for _ in range(ATTEMPTS):
        before = await asyncio.to_thread(_stamps, source)
        await asyncio.sleep(QUIET)
        found = await asyncio.to_thread(_outcome, read, source)
        if await asyncio.to_thread(_stamps, source) == before:
            break
    else:
        logger.warning("configuration refused: %s keeps changing, expected it at rest", source)
        return
    if isinstance(found, ConfigError):
        worlds.refused = found
        for problem in found.problems:
            logger.warning("configuration refused: %s", problem)
        return
    if found == worlds.current:
        worlds.refused = None
        return
    await worlds.replace(found)
    logger.info("configuration taken", extra={"resources": sum(1 for _ in found.resources())})


def _outcome(read: Callable[[Path], World], source: Path) -> World | ConfigError:
    try:
        return read(source)
    except ConfigError as error:
        return error


def _stamps(source: Path) -> _Stamps:
    """Look at the files behind links, too: their times and sizes alone may all be the same."""
    stamps = {}
    with suppress(ConfigError, OSError):
        for path in files(source):
            status = path.stat()
            stamps[path] = (status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size)
    return stamps
