"""The World that serves, replaced whole when the files change and are good."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from watchfiles import awatch

from wherry.config import SUFFIXES, load
from wherry.errors import ConfigError
from wherry.model.world import World

logger = logging.getLogger(__name__)


class Worlds:
    """The current `World` and its successors.

    Attributes:
        current: The last good one.
        refused: Why the newest files are not in use, or None while they are.
    """

    def __init__(self, first: World) -> None:
        self.current = first
        self.refused: ConfigError | None = None
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

    Files that are wrong are refused whole: `Worlds.current` stays, the reasons are logged.
    """
    folder = source if await asyncio.to_thread(source.is_dir) else source.parent
    changes = awatch(
        folder,
        watch_filter=lambda _, path: Path(path).suffix in SUFFIXES,
        debounce=100,
        step=20,
        recursive=False,
    )
    async for _ in changes:
        await reload(source, worlds, read=read)


async def reload(source: Path, worlds: Worlds, *, read: Callable[[Path], World] = load) -> None:
    """Read ``source`` once and replace the current World if it is good."""
    try:
        world = await asyncio.to_thread(read, source)
    except ConfigError as error:
        worlds.refused = error
        for problem in error.problems:
            logger.warning("configuration refused: %s", problem)
        return
    await worlds.replace(world)
    logger.info("configuration taken", extra={"resources": sum(1 for _ in world.resources())})
