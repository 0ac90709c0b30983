"""Asynchronous invocations: accepted at once, run in the background, tried again on failure."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from faas.lambda_errors import TooManyRequests
from faas.outcome import Outcome
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

MAX_EVENT = 1 << 20
"""Most bytes in an asynchronous event. Source: Lambda quotas, "Invocation payload"."""


class Events:
    """Events in flight, held in memory: those not done when the service ends are logged and lost.

    Full, it throttles.

    Args:
        limit: Most events in flight, those that wait for another try included.
        retries: Seconds before the second, the third ... try; Lambda waits one and two minutes.
        tasks: Owner of the events' tasks.
    """

    def __init__(self, *, limit: int, retries: tuple[float, ...], tasks: asyncio.TaskGroup) -> None:
        self._limit = limit
        self._retries = retries
        self._tasks = tasks
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def accept(self, name: str, invoke: Callable[[], Awaitable[Outcome]]) -> None:
        """Run ``invoke`` in the background until it succeeds or its tries are used up.

        Raises:
            TooManyRequests: ``limit`` events are in flight.
        """
        if len(self._running) >= self._limit:
            raise TooManyRequests(retry_after=5)
        task = self._tasks.create_task(self._deliver(name, invoke), name=f"event {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def stop(self) -> None:
        """Try nothing again; what runs may end."""
        self._stopping.set()

    async def _deliver(self, name: str, invoke: Callable[[], Awaitable[Outcome]]) -> None:
        for delay in (*self._retries, None):
            try:
                if (await invoke()).error is None:
                    return
            except WherryError as error:
                failed = {"function": name, "error": type(error).__name__}
                logger.warning("event failed", extra=failed)
            if delay is None or await self._stopped_within(delay):
                break
        logger.error("event dropped", extra={"function": name})

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True
