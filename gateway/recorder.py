"""Usage on its way from calls to the Store's log."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from gateway.metering.batch import MOST_USES, encoded
from gateway.metering.journal import Journal
from gateway.metering.kept import Batch, Kept, Memory
from gateway.metering.places import Places
from gateway.usage import LOG, Usage
from wherry.errors import WherryError
from wherry.store import Store

logger = logging.getLogger(__name__)

QUEUE = 10_000
"""Most calls that are under way or recorded but not yet kept."""

WINDOW_SECONDS = 0.05
"""How long a first use waits for others before they are kept together: what a kill can lose."""

SEND_SECONDS = 0.5
"""How long the Store is left alone after it took what the journal had."""

MOST_WAITING = 256 << 20
"""Most bytes of the journal that wait for the Store."""

_RETRY_SECONDS = 0.2
_SENT_AT_ONCE = 8 << 20

T = TypeVar("T")
P = ParamSpec("P")


class UsageLost(WherryError):
    """The gateway ended before its usage was kept."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(
            f"usage: {count} calls not written within {seconds:g} s of the end, expected the "
            "store to take them; they are lost, see the log for why"
        )
        self.count, self.seconds = count, seconds


class Recorder:
    """Writes each use once.

    A call reserves its place before it goes on, so its record cannot be refused afterwards.
    When every place is taken, new calls wait: nothing is dropped. A place is free again once the
    use is kept: with a folder on the disk of this machine, without one in the Store's log.
    Within `WINDOW_SECONDS` and one write a use is kept; that is as long as a killed gateway can
    forget. The Store gets what was kept in batches, each under one id however often it is sent,
    so its log holds each use once; what a killed process kept, the next one sends.

    Args:
        store: Holds the log.
        places: Most calls under way or waiting to be kept.
        patience: Seconds after `end` within which everything must be kept.
        folder: Of the journals of all gateways of this machine, made if need be; None keeps
            nothing on the disk.
        most_waiting: Bytes of the journal that may wait for the Store; over it, calls wait.
    """

    def __init__(
        self,
        store: Store,
        *,
        places: int = QUEUE,
        patience: float = 10.0,
        folder: Path | None = None,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._store, self._patience, self._folder = store, patience, folder
        self._most_waiting = most_waiting
        self._places = Places(places)
        self._waiting: deque[Usage] = deque()
        self._some, self._unsent, self._ending = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room = asyncio.Event()
        self._batch: Batch | None = None
        self._calls: deque[int] = deque()
        self._boot, self._count = secrets.token_hex(8), 0
        self._thread: ThreadPoolExecutor | None = None
        self._kept: Kept | None = None
        self._keeps, self._sends, self._full = True, True, False

    @property
    def failing(self) -> bool:
        """Whether new uses cannot be kept now."""
        return not self._keeps or self._full or (self._folder is None and not self._sends)

    def next_id(self) -> str:
        """Return an id that no event of any gateway had before."""
        self._count += 1
        return f"{self._boot}-{self._count:x}"

    def reserved(self) -> bool:
        """Take a place if one is free; then `record` must follow."""
        return self._places.taken()

    async def reserve(self) -> None:
        """Wait for a place; then `record` must follow."""
        await self._places.take()

    def record(self, usage: Usage) -> None:
        """Put ``usage`` in the place reserved for it."""
        self._waiting.append(usage)
        self._some.set()

    async def run(self) -> None:
        """Keep and send until `end` is called and everything is kept.

        A cancellation after `end` waits for that, too; one before it keeps on the disk what there
        is, if there is a folder.

        Raises:
            StartError: The folder cannot be written to.
            UsageLost: Not everything could be kept in time.
        """
        if self._folder is not None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="wherry-usage")
        try:
            try:
                await self._run(await self._do(self._opened))
            except asyncio.CancelledError:
                if self._ending.is_set():
                    await self._finish(await self._do(self._opened))
                raise
            finally:
                await self._do(self._close)
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False)

    def end(self) -> None:
        """Let `run` keep what is left and return; no record may follow."""
        self._ending.set()
        for event in (self._some, self._unsent, self._room):
            event.set()

    async def _run(self, kept: Kept) -> None:
        async with asyncio.TaskGroup() as group:
            left = group.create_task(self._send_left(), name="usage: send what was left")
            sending = group.create_task(self._send_on(kept), name="usage: send")
            await self._keep_on(kept)
            await asyncio.wait([sending, left], timeout=self._patience)
            sending.cancel()
            left.cancel()
        if not kept.size:
            return
        if self._folder is None:
            raise UsageLost(sum(self._calls), self._patience)
        logger.warning("usage waits for the next start", extra={"bytes": kept.size})

    async def _finish(self, kept: Kept) -> None:
        """Keep and send what is left, in the time that an end may take."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while self._waiting:
                    await self._write(kept)
                while await self._send(kept):
                    pass

    async def _keep_on(self, kept: Kept) -> None:
        """Write what calls record; return after `end`, when everything is written."""
        while not self._ending.is_set():
            await self._some.wait()
            await self._unless_ending(WINDOW_SECONDS)
            self._some.clear()
            while self._waiting and not self._ending.is_set():
                await self._has_room(kept)
                await self._write(kept)
        try:
            async with asyncio.timeout(self._patience):
                while self._waiting:
                    await self._write(kept)
        except TimeoutError:
            raise UsageLost(len(self._waiting), self._patience) from None
        finally:
            self._unsent.set()

    async def _write(self, kept: Kept) -> None:
        """Write one batch; one that failed is tried again as it was, so that its ids hold."""
        batch = self._next_batch(kept)
        try:
            await self._do(batch.write, kept)
        except OSError as error:
            if self._keeps:
                extra = {"waiting": len(self._waiting), "why": str(error)}
                logger.warning("usage cannot be kept", extra=extra)
            self._keeps = False
            await asyncio.sleep(_RETRY_SECONDS)
            return
        self._keeps = True
        self._written(batch)
        if self._folder is None:
            self._calls.extend([0] * (len(batch.bodies) - 1) + [batch.calls])
        else:
            self._places.free(batch.calls)
        self._unsent.set()

    def _next_batch(self, kept: Kept) -> Batch:
        if self._batch is None:
            uses = list(islice(self._waiting, MOST_USES))
            self._batch = Batch(len(uses), encoded(uses), kept.number)
        return self._batch

    def _written(self, batch: Batch) -> None:
        self._batch = None
        for _ in range(batch.calls):
            self._waiting.popleft()

    def _close(self) -> None:
        """Write what is left when `run` was cut off, and give everything back."""
        kept = self._opened()
        try:
            while self._waiting:
                batch = self._next_batch(kept)
                batch.write(kept)
                self._written(batch)
        except OSError:
            logger.exception("usage is lost", extra={"calls": len(self._waiting)})
        finally:
            kept.close()

    async def _has_room(self, kept: Kept) -> None:
        while kept.size > self._most_waiting and not self._ending.is_set():
            if not self._full:
                logger.error("usage waits for the store", extra={"bytes": kept.size})
            self._full = True
            self._room.clear()
            await self._room.wait()
        self._full = False

    async def _send_on(self, kept: Kept) -> None:
        """Send what was kept; return after `end`, when everything was sent."""
        while True:
            await self._unsent.wait()
            if not self._ending.is_set():
                self._unsent.clear()
            last = self._ending.is_set() and not self._waiting
            while sent := await self._send(kept):
                self._room.set()
                if self._folder is None:
                    self._places.free(sum(self._calls.popleft() for _ in range(sent)))
            if last:
                return
            if self._ending.is_set():
                await asyncio.sleep(0)  # until the last of it is kept
            if self._folder is not None:
                await self._unless_ending(SEND_SECONDS)

    async def _send_left(self) -> None:
        """Send what processes left that are gone."""
        if self._folder is None:
            return
        found = Journal.left(self._folder)
        while (journal := await self._do(lambda: next(found, None))) is not None:
            try:
                while await self._send(journal):
                    pass
            finally:
                await self._do(journal.close)

    async def _send(self, kept: Kept) -> int:
        """Let the Store take the oldest records; return how many that were."""
        while True:
            try:
                held = await self._do(kept.waiting, _SENT_AT_ONCE)
                if not held:
                    return 0
                await self._store.append(LOG, held)
            except (WherryError, OSError) as error:
                if self._sends:
                    extra = {"bytes": kept.size, "why": str(error)}
                    logger.warning("usage cannot be sent", extra=extra)
                self._sends = False
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if not self._sends:
                logger.info("usage is sent again")
            self._sends = True
            await self._do(kept.sent, len(held))
            return len(held)

    def _opened(self) -> Kept:
        if self._kept is None:
            self._kept = Memory() if self._folder is None else Journal.begun(self._folder)
        return self._kept

    async def _unless_ending(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may block."""
        if self._thread is None:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *args, **kwargs))
