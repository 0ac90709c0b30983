"""Reads a Redis Stream into a function: in order, acknowledged once done with or given up.

Each mapping is a consumer group. A lease in the Store lets one process at a time read for it, so
what another consumer of the group left unacknowledged is a dead one's, and is read again first.

Source: https://redis.io/docs/latest/develop/data-types/streams/
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from faas.events.targets import Outbox
from faas.mappings import batches
from faas.mappings.batches import Batch, Step
from faas.mappings.calls import Called, Invoke, call
from faas.mappings.filters import matches, pattern
from faas.mappings.queue import Note
from faas.mappings.shapes import (
    MAX_BATCH_BYTES,
    Entry,
    event,
    failures,
    given_up,
    packed,
    stream_of,
    stream_record,
)
from faas.model.mapping import EventSourceMapping
from faas.queues.attributes import named
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import LeaseLost, Store

logger = logging.getLogger(__name__)

_CONSUMER = "wherry"
_LEASE_SECONDS = 15.0
_RENEW_SECONDS = 5.0
_BLOCK_MS = 500
_LAST_WAIT = 30.0
_GROUP_EXISTS = "BUSYGROUP"


@dataclass(frozen=True, slots=True)
class Place:
    """What a reader works with.

    Attributes:
        store: Holds the lease.
        redis: Has the stream.
        invoke: Runs the function.
        outbox: Takes what is given up.
        clock: For windows and ages.
        region: For records.
    """

    store: Store
    redis: Redis
    invoke: Invoke
    outbox: Outbox
    clock: Clock
    region: str


class StreamReader:
    """One mapping of a stream; `read` until `stop`."""

    def __init__(self, mapping: EventSourceMapping, place: Place, *, note: Note) -> None:
        self._mapping = mapping
        self._place = place
        self._redis = place.redis
        self._note = note
        self._stream = stream_of(mapping.source)
        self._filters = [pattern(text) for text in mapping.filters]
        self._holder = str(uuid.uuid4())
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Read nothing more; `read` returns when the call in flight has ended."""
        self._stopping.set()

    async def read(self) -> None:
        """Call the function with what comes, in order, until `stop`."""
        failures_in_a_row = 0
        while not self._stopping.is_set():
            try:
                await self._leased()
                failures_in_a_row = 0
            except LeaseLost:
                await self._pause(_RENEW_SECONDS)
            except (RedisError, WherryError, OSError) as error:
                failed = {"stream": self._stream, "error": type(error).__name__}
                logger.warning("stream not read; tried again", extra=failed)
                with suppress(WherryError):
                    await self._note("PROBLEM: The stream cannot be read")
                await self._pause(min(0.5 * 2.0 ** min(failures_in_a_row, 10), _LAST_WAIT))
                failures_in_a_row += 1

    async def forget(self) -> None:
        """Remove the consumer group; the mapping was deleted."""
        with suppress(RedisError, OSError):
            await self._redis.xgroup_destroy(self._stream, self._mapping.uuid)

    async def _leased(self) -> None:
        key = f"mapping/{self._mapping.uuid}"
        lease = await self._place.store.lease(key, self._holder, seconds=_LEASE_SECONDS)
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep(key), name=f"lease {key}")
                try:
                    await self._follow()
                finally:
                    keeping.cancel()
        except* LeaseLost:
            raise LeaseLost(key) from None
        except* (RedisError, WherryError, OSError) as group:
            raise group.exceptions[0] from None
        finally:
            await self._place.store.release(lease)

    async def _keep(self, key: str) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            await self._place.store.lease(key, self._holder, seconds=_LEASE_SECONDS)

    async def _follow(self) -> None:
        await self._join()
        await self._claim()
        while not self._stopping.is_set():
            entries = await self._left() or await self._new()
            if entries:
                await self._work(entries)

    async def _join(self) -> None:
        """Make the consumer group where it is missing."""
        start = "$" if self._mapping.starting_position == "LATEST" else "0"
        try:
            await self._redis.xgroup_create(
                self._stream, self._mapping.uuid, id=start, mkstream=True
            )
        except ResponseError as error:
            if not str(error).startswith(_GROUP_EXISTS):
                raise

    async def _claim(self) -> None:
        """Take over what other consumers of the group left; the lease says that they are dead."""
        cursor: bytes | str = "0-0"
        while True:
            claimed = await self._redis.xautoclaim(
                self._stream, self._mapping.uuid, _CONSUMER, 0, start_id=cursor, justid=False
            )
            cursor = claimed[0]
            if cursor in {b"0-0", "0-0"}:
                return

    async def _left(self) -> list[Entry]:
        """Return the oldest entries that were read before and not acknowledged."""
        answer = await self._redis.xreadgroup(
            self._mapping.uuid, _CONSUMER, {self._stream: "0"}, count=self._mapping.batch_size
        )
        return _entries(answer)

    async def _new(self) -> list[Entry]:
        """Return the entries of the next batch, waiting for it to fill."""
        size = self._mapping.batch_size
        found: list[Entry] = []
        until: float | None = None
        while len(found) < size and not self._stopping.is_set():
            block = _BLOCK_MS
            if until is not None:
                left = until - self._place.clock.now()
                if left <= 0:
                    break
                block = max(1, min(block, int(left * 1000)))
            answer = await self._redis.xreadgroup(
                self._mapping.uuid,
                _CONSUMER,
                {self._stream: ">"},
                count=size - len(found),
                block=block,
            )
            found += _entries(answer)
            if until is None:
                if not found:
                    break
                until = self._place.clock.now() + self._mapping.window
        return found

    async def _work(self, entries: Sequence[Entry]) -> None:
        """See a batch through: until each entry is done with, given up, or the reader stops."""
        wanted: list[Entry] = []
        for entry in entries:
            if entry.fields and self._wanted(entry):
                wanted.append(entry)
            else:
                await self._acknowledge([entry])
        records = [self._record(entry) for entry in wanted]
        pending = deque(Batch(tuple(wanted[cut])) for cut in packed(records, MAX_BATCH_BYTES))
        while pending and not self._stopping.is_set():
            step = await self._step(pending.popleft())
            await self._acknowledge(step.done)
            pending.extendleft(reversed(step.again))
            if step.wait:
                await self._pause(step.wait)

    async def _step(self, batch: Batch) -> Step:
        step = batches.before(batch, self._mapping, now=self._now())
        called = None
        if step is None:
            payload = event([self._record(entry) for entry in batch.entries])
            called = await call(self._mapping, payload, self._place.invoke)
            await self._note(called.result)
            step = self._after(batch, called)
        if step.lost is not None:
            await self._give_up(step.lost, step.condition, called)
        return step

    def _after(self, batch: Batch, called: Called) -> Step:
        if called.response is None:
            return batches.hindered(batch)
        if not called.succeeded:
            return batches.failed(batch, self._mapping)
        ids = [entry.id for entry in batch.entries]
        report = self._mapping.report_failures
        failed = failures(called.response.payload, ids) if report else frozenset()
        return batches.succeeded(batch, failed, self._mapping)

    async def _give_up(self, lost: Batch, condition: str, called: Called | None) -> None:
        """Record a batch at the mapping's destination, exactly once, and go on behind it."""
        first, last = lost.entries[0].id, lost.entries[-1].id
        once = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._mapping.uuid}:{first}:{last}"))
        queue = named(self._mapping.on_failure)
        lines = {"stream": self._stream, "entries": len(lost.entries), "condition": condition}
        logger.warning("entries given up", extra=lines)
        if queue is not None:
            record = given_up(
                self._mapping,
                lost.entries,
                condition=condition,
                tries=lost.tries,
                request_id=once if called is None else called.request_id,
                response=None if called is None else called.response,
                now=self._now(),
            )
            if not await self._place.outbox.post(queue, record.decode(), {}, once=once):
                logger.error("record dropped: no such queue", extra={"queue": queue})
        await self._acknowledge(lost.entries)
        if queue is not None:
            await self._place.outbox.settle(queue, once)

    async def _acknowledge(self, entries: Sequence[Entry]) -> None:
        if entries:
            await self._redis.xack(
                self._stream, self._mapping.uuid, *(entry.id for entry in entries)
            )

    def _wanted(self, entry: Entry) -> bool:
        record = self._record(entry)
        return not self._filters or any(matches(each, record) for each in self._filters)

    def _record(self, entry: Entry) -> dict[str, object]:
        return stream_record(entry, arn=self._mapping.source, region=self._place.region)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _now(self) -> float:
        return self._place.clock.unix_ns() / 1e9


def _entries(answer: object) -> list[Entry]:
    """Return the entries in what XREADGROUP answers for one stream."""
    if not answer:
        return []
    streams = list(answer.items()) if isinstance(answer, dict) else list(answer)  # type: ignore[call-overload]
    found: list[Entry] = []
    for _, entries in streams:
        for part in entries:
            listed = part if isinstance(part, list) else [part]
            found += [Entry(name.decode(), dict(fields or {})) for name, fields in listed]
    return found
