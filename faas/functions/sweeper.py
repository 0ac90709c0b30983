"""Packages that nothing names any more, removed while functions run."""

import asyncio
import logging
from collections.abc import Iterable

from faas.code.package import packages, remove
from faas.functions.registry import Registry
from faas.running.workers import Workers
from faas.vm import Launch
from wherry.clock import Clock
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks."""
GRACE = 600.0
"""Seconds that a package stays after it was last named or deployed: more than any deploy takes."""


class Sweeper:
    """Removes packages that no record names, no instance runs and no deploy found of late.

    A package that a deploy unpacked and has not recorded yet is safe for `GRACE`, as is one whose
    record a call read just before it changed.

    Args:
        registry: Names packages.
        workers: Run them.
        clock: For the time since a package was last named.
        tasks: Owns the task that looks.
        every: See `EVERY`.
        grace: See `GRACE`.
    """

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        *,
        every: float = EVERY,
        grace: float = GRACE,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._clock = clock
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._every = every
        self._grace = grace
        self._unnamed: dict[str, float] = {}

    def start(self) -> None:
        """Look from time to time, until `stop`."""
        self._task = self._tasks.create_task(self._run(), name="sweeper")

    def stop(self) -> None:
        """Remove nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def sweep(self) -> list[str]:
        """Remove what was named by nothing for long enough; return the digests that went."""
        there = await asyncio.to_thread(packages, self._registry.code_dir)
        now, named = self._clock.now(), await self._registry.named()
        self._unnamed = {each: self._unnamed.get(each, now) for each in there - named}
        used = _used(self._workers.launches())
        due = [
            each
            for each, since in self._unnamed.items()
            if now - since >= self._grace and each not in used
        ]
        if not due:
            return []
        code_dir = self._registry.code_dir
        before_ns = self._clock.unix_ns() - round(self._grace * 1e9)
        return await asyncio.to_thread(remove, code_dir, due, before_ns=before_ns)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                gone = await self.sweep()
            except (WherryError, OSError):
                logger.exception("packages not swept")
            else:
                if gone:
                    logger.info("packages removed", extra={"count": len(gone)})


def _used(launches: Iterable[Launch]) -> set[str]:
    """Return the digests of the packages that launches are made of."""
    found: set[str] = set()
    for launch in launches:
        roots = [launch.code, *launch.layers]
        if launch.container is not None:
            roots.append(launch.container.root)
        found.update(root.parent.name for root in roots)
    return found
