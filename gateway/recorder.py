"""Usage on its way to the Store's log, in batches."""

import asyncio
import logging
import secrets
from collections import deque
from itertools import islice

from gateway.usage import LOG, Usage
from wherry.errors import WherryError
from wherry.store import Store

logger = logging.getLogger(__name__)

QUEUE = 10_000
"""Most calls that are under way or recorded but not yet in the log."""

GATHER_SECONDS = 0.025
"""How long a first event waits for others before a batch is written."""

_BATCH = 1000
_RETRY_SECONDS = 0.2


class UsageLost(WherryError):
    """The gateway ended before the Store took all usage."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(
            f"usage: {count} calls not written within {seconds:g} s of the end, expected the "
            "store to take them; they are lost, see the log for why"
        )
        self.count, self.seconds = count, seconds


class Recorder:
    """Writes each use once.

    A call reserves its place before it goes on, so its record cannot be refused afterwards.
    When every place is taken, because the Store does not keep up, new calls wait: nothing is
    dropped. Recorded means in memory; within about `GATHER_SECONDS` and one write it is in the
    log, which is as long as a killed gateway can forget. A failed write is tried again with
    the same ids, so the log holds each event once.

    Args:
        store: Holds the log.
        places: Most calls under way or waiting to be written.
        patience: Seconds after `end` within which the Store must have taken everything.
    """

    def __init__(self, store: Store, *, places: int = QUEUE, patience: float = 10.0) -> None:
        self._store, self._patience = store, patience
        self._places = asyncio.Semaphore(places)
        self._waiting: deque[Usage] = deque()
        self._some = asyncio.Event()
        self._ending = asyncio.Event()
        self._boot, self._count = secrets.token_hex(8), 0
        self.failing = False

    def next_id(self) -> str:
        """Return an id that no event of any gateway had before."""
        self._count += 1
        return f"{self._boot}-{self._count:x}"

    async def reserve(self) -> None:
        """Wait for a place; then `record` must follow."""
        await self._places.acquire()

    def record(self, usage: Usage) -> None:
        """Put ``usage`` in the place reserved for it."""
        self._waiting.append(usage)
        self._some.set()

    async def run(self) -> None:
        """Write batches until `end` is called and everything is written.

        Raises:
            UsageLost: The Store did not take everything in time.
        """
        while True:
            await self._some.wait()
            if not self._ending.is_set():
                await self._gather()
            self._some.clear()
            while self._waiting and not self._ending.is_set():
                await self._flush()
            if self._ending.is_set():
                await self._finish()
                return

    def end(self) -> None:
        """Let `run` write what is left and return; no record may follow."""
        self._ending.set()
        self._some.set()

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while self._waiting:
                    await self._flush()
        except TimeoutError:
            raise UsageLost(len(self._waiting), self._patience) from None

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                await self._ending.wait()
        except TimeoutError:
            return

    async def _flush(self) -> None:
        batch = list(islice(self._waiting, _BATCH))
        try:
            await self._store.append(LOG, [(usage.id, usage.encode()) for usage in batch])
        except WherryError:
            if not self.failing:
                logger.exception("usage cannot be written", extra={"waiting": len(self._waiting)})
            self.failing = True
            await asyncio.sleep(_RETRY_SECONDS)
            return
        if self.failing:
            logger.info("usage is written again")
        self.failing = False
        for _ in batch:
            self._waiting.popleft()
            self._places.release()
