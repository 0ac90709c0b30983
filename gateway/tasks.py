"""Tasks with an owner."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import NoReturn

logger = logging.getLogger(__name__)


class Background:
    """Work that nobody waits for: what is not done at the end is given up.

    Args:
        group: Owns the tasks.
        most: Tasks at once; when there are as many, more are not begun.
    """

    def __init__(self, group: asyncio.TaskGroup, most: int) -> None:
        self._group, self._most = group, most
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether no more can be begun now."""
        return len(self._tasks) >= self._most

    def spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        """Begin ``work``, unless there is too much of it."""
        if self.full:
            work.close()
            return
        task = self._group.create_task(_alone(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that was given up before it began

    def end(self) -> None:
        """Give up what is not done."""
        for task in self._tasks:
            task.cancel()


async def _alone(work: Coroutine[None, None, None]) -> None:
    """Let a failure of ``work`` be its own."""
    try:
        await work
    except Exception:
        logger.exception("background work failed")


@asynccontextmanager
async def owned() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks as a TaskGroup does, but let an error of the block itself leave as it is.

    Being told to end is such an error, too: tasks end in their own order then, not all at once.
    """
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        try:
            yield group
        except BaseException as error:
            failure = error
    if failure is not None:
        raise failure


class _Ended(Exception):
    """The block ended, and so do its tasks."""


@asynccontextmanager
async def given_up() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks that are given up when the block ends; an error of the block leaves as it is."""
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as error:
                failure = error
            _end()
    except* _Ended:
        pass
    if failure is not None:
        raise failure


def _end() -> NoReturn:
    raise _Ended
