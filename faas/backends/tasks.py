"""A TaskGroup that ends with its block."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


class Tasks:
    """Tasks that live at most as long as the block of `tasks`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[object, object, None], *, name: str) -> None:
        """Run ``coroutine`` until it ends or the block does."""
        task = self._group.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def cancel(self) -> None:
        """Ask every task to end."""
        for task in self._running:
            task.cancel()


@asynccontextmanager
async def tasks() -> AsyncIterator[Tasks]:
    """Yield a place for tasks; cancel them at the end.

    An error of the block comes out as itself and not inside a group.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        running = Tasks(group)
        try:
            yield running
        except Exception as error:
            failure = error
        running.cancel()
    if failure is not None:
        raise failure
