"""The World that serves follows files and the Store together."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from wherry.config import assemble, contents
from wherry.config.stored import FOLDER, path
from wherry.config.watch import Worlds, reload, watch
from wherry.model.world import World
from wherry.resources import Check
from wherry.resources.commit import overlaid, text_of
from wherry.store import Store, View
from wherry.store import follow as store_follow

_NOWHERE = Path("/nonexistent")


async def follow(
    store: Store, source: Path | None, worlds: Worlds, *, check: Check | None = None
) -> None:
    """Keep ``worlds`` at files and Store together, until cancelled.

    What is wrong is refused whole and logged; the last good World serves. While the Store fails,
    what it held last counts.

    Args:
        store: See `wherry.resources.Resources`.
        source: See there.
        worlds: Holds the World of both already.
        check: See `wherry.resources.Check`.
    """
    both = _Both(store, source, worlds, check)
    await asyncio.to_thread(both.take, await store.list(FOLDER))
    async with asyncio.TaskGroup() as group:
        if source is not None:
            files = watch(source, worlds, read=both.read)
            group.create_task(files, name="configuration: files")
        group.create_task(both.follow_store(), name="configuration: stored")


class _Both:
    def __init__(
        self, store: Store, source: Path | None, worlds: Worlds, check: Check | None
    ) -> None:
        self._store, self._source, self._worlds, self._check = store, source, worlds, check
        self._stored: Mapping[Path, str] = {}

    def take(self, view: View) -> None:
        _, records = overlaid(view)
        self._stored = {path(of): text_of(record) for of, record in records.items()}

    def read(self, _: Path) -> World:
        files = {} if self._source is None else contents(self._source)
        world = assemble({**files, **self._stored})
        if self._check is not None:
            self._check(world)
        return world

    async def follow_store(self) -> None:
        await store_follow.follow(self._store, FOLDER, self._look, what="stored resources")

    async def _look(self, view: View) -> None:
        await asyncio.to_thread(self.take, view)
        await reload(self._source or _NOWHERE, self._worlds, read=self.read)
