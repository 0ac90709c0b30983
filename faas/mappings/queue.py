"""Reads a queue into a function: batches, several at once, deleted when the function is done."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from faas.mappings.calls import Invoke, call, looped
from faas.mappings.filters import matches, pattern
from faas.mappings.shapes import MAX_BATCH_BYTES, event, failures, packed, queue_record
from faas.model.mapping import EventSourceMapping
from faas.queues.attributes import named
from faas.queues.held import Held, Received
from faas.queues.service import Queues
from wherry.clock import Clock
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

_AT_ONCE = 10
"""Calls at once when the mapping does not say."""
_POLL_SECONDS = 1.0
_LAST_WAIT = 30.0
_RECEIVE = 10

Note = Callable[[str], Awaitable[None]]
"""Takes what Lambda's LastProcessingResult is to say."""


class QueueReader:
    """One mapping of a queue; `read` until `stop`.

    Messages that the function did not finish are seen again after the queue's visibility timeout;
    the queue's redrive policy decides when that is enough.
    """

    def __init__(
        self,
        mapping: EventSourceMapping,
        queues: Queues,
        invoke: Invoke,
        *,
        note: Note,
        clock: Clock,
        region: str,
    ) -> None:
        self._mapping = mapping
        self._queues = queues
        self._invoke = invoke
        self._note = note
        self._clock = clock
        self._region = region
        self._filters = [pattern(text) for text in mapping.filters]
        self._name = named(mapping.source) or ""
        self._room = asyncio.Semaphore(mapping.max_concurrency or _AT_ONCE)
        self._stopping = asyncio.Event()
        self._hindered = 0

    def stop(self) -> None:
        """Receive nothing more; `read` returns when the calls in flight have ended."""
        self._stopping.set()

    async def read(self) -> None:
        """Call the function with what comes, until `stop`."""
        async with asyncio.TaskGroup() as calls:
            while not self._stopping.is_set():
                await self._pause()
                await self._room.acquire()
                try:
                    batch = await self._batch()
                except WherryError:
                    logger.exception("queue not read; tried again", extra={"queue": self._name})
                    self._hindered += 1
                    batch = []
                if batch:
                    calls.create_task(self._run(batch), name=f"records of {self._name}")
                else:
                    self._room.release()

    async def _pause(self) -> None:
        """Wait the longer, the more often calls could not be made."""
        if self._hindered:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(2.0 ** min(self._hindered - 1, 10), _LAST_WAIT)):
                    await self._stopping.wait()

    async def _batch(self) -> list[Received]:
        """Return the messages of the next call, those that no filter wants deleted."""
        held = self._queues.get(self._name)
        size, window = self._mapping.batch_size, self._mapping.window
        batch: list[Received] = []
        until: float | None = None
        while len(batch) < size and not self._stopping.is_set():
            left = _POLL_SECONDS if until is None else until - self._clock.now()
            if until is not None and left <= 0:
                break
            wait = min(_POLL_SECONDS, left)
            found = await held.receive(min(_RECEIVE, size - len(batch)), wait=wait)
            for each in found:
                if self._wanted(each):
                    batch.append(each)
                else:
                    await held.delete(each.handle)
            if batch and until is None:
                until = self._clock.now() + window
            if not found and (until is None or not window):
                break
        return batch

    def _wanted(self, found: Received) -> bool:
        if not self._filters:
            return True
        record = queue_record(found, arn=self._mapping.source, region=self._region)
        return any(matches(each, record) for each in self._filters)

    async def _run(self, batch: Sequence[Received]) -> None:
        try:
            held = self._queues.get(self._name)
            batch = [each for each in batch if not await self._cut(held, each)]
            records = [
                queue_record(each, arn=self._mapping.source, region=self._region) for each in batch
            ]
            for part in packed(records, MAX_BATCH_BYTES):
                await self._call(held, batch[part], event(records[part]))
        except WherryError:
            logger.exception("records not deleted", extra={"queue": self._name})
        finally:
            self._room.release()

    async def _cut(self, held: Held, found: Received) -> bool:
        """Leave out a message that went in a circle; without dead letters it is deleted."""
        if not looped(self._mapping, found.content.trace):
            return False
        logger.error("message left out: functions call each other", extra={"queue": self._name})
        if held.queue.redrive is None:
            await held.delete(found.handle)
        return True

    async def _call(self, held: Held, batch: Sequence[Received], payload: bytes) -> None:
        trace = next((each.content.trace for each in batch if each.content.trace), "")
        called = await call(self._mapping, payload, self._invoke, trace_id=trace)
        self._hindered = 0 if called.response is not None else self._hindered + 1
        await self._note(called.result)
        if not called.succeeded or called.response is None:
            return
        ids = [each.message.id for each in batch]
        report = self._mapping.report_failures
        failed = failures(called.response.payload, ids) if report else frozenset()
        for each in batch:
            if each.message.id not in failed:
                await held.delete(each.handle)
