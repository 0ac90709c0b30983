"""Keeps a reader for each mapping that the Store has, and starts it anew when it changes."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import TypeAdapter
from redis.asyncio import Redis

from faas.events.targets import Outbox
from faas.mappings.calls import Invoke
from faas.mappings.queue import Note, QueueReader
from faas.mappings.stream import Place, StreamReader
from faas.model.mapping import PREFIX, EventSourceMapping
from faas.model.source import source_of
from faas.queues.service import Queues
from faas.records import Records
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Store, View

logger = logging.getLogger(__name__)

_KIND = TypeAdapter(EventSourceMapping)
_RETRY_SECONDS = 1.0
_UNREADABLE = "PROBLEM: No Redis is configured (redis_url)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What mappings are told.

    Attributes:
        region: For records.
        redis_url: Where streams are; empty: mappings of streams say that there is none.
    """

    region: str = "us-east-1"
    redis_url: str = ""


@dataclass(slots=True)
class _Reading:
    """A reader at work.

    Attributes:
        mapping: What it was made for.
    """

    mapping: EventSourceMapping
    reader: QueueReader | StreamReader
    task: asyncio.Task[None]


class Mappings:
    """Follows the records of event source mappings.

    Args:
        store: Has the records.
        queues: What mappings of queues read.
        invoke: Runs a function once.
        settings: What mappings are told.
        clock: For windows and ages.
        tasks: Owner of the readers.
    """

    def __init__(
        self,
        store: Store,
        queues: Queues,
        invoke: Invoke,
        *,
        settings: Settings,
        clock: Clock,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._records = Records(store, PREFIX, EventSourceMapping)
        self._queues = queues
        self._outbox: Outbox = queues
        self._invoke = invoke
        self._settings = settings
        self._clock = clock
        self._tasks = tasks
        self._redis: Redis | None = None
        self._readings: dict[str, _Reading] = {}
        self._live: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def reading(self) -> int:
        """How many mappings are read."""
        return len(self._readings)

    def start(self) -> None:
        """Read what the Store says is to be read, until `stop`."""
        self._task = self._tasks.create_task(self._run(), name="mappings")

    def stop(self) -> None:
        """Read nothing more; calls in flight end, and their records are dealt with."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                try:
                    async for view in self._store.watch(PREFIX):
                        await self._follow(view)
                except WherryError:
                    logger.exception("mappings not followed; tried again")
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            for reading in self._readings.values():
                reading.reader.stop()
            if self._live:
                await asyncio.wait(self._live)
            if self._redis is not None:
                await self._redis.aclose()

    async def _follow(self, view: View) -> None:
        wanted: dict[str, EventSourceMapping] = {}
        for record in view.values():
            mapping = replace(_KIND.validate_json(record.body), last_result="", tags={})
            wanted[mapping.uuid] = mapping
        for name, reading in list(self._readings.items()):
            found = wanted.get(name)
            if found == reading.mapping:
                continue
            reading.reader.stop()
            if found is None or not found.enabled:
                del self._readings[name]
                _ = self._spawn(self._after(reading, gone=found is None), name)
        for name, mapping in wanted.items():
            before = self._readings.get(name)
            if mapping.enabled and (before is None or before.mapping != mapping):
                await self._begin(mapping, None if before is None else before.task)

    async def _begin(self, mapping: EventSourceMapping, before: asyncio.Task[None] | None) -> None:
        async def note(result: str) -> None:
            with suppress(WherryError):
                await self._note(mapping.uuid, result)

        reader = self._reader(mapping, note)
        if reader is None:
            await note(_UNREADABLE)
            return
        task = self._spawn(self._read(reader, before), mapping.uuid)
        self._readings[mapping.uuid] = _Reading(mapping, reader, task)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=f"mapping {name}")
        self._live.add(task)
        task.add_done_callback(self._live.discard)
        return task

    async def _read(
        self, reader: QueueReader | StreamReader, before: asyncio.Task[None] | None
    ) -> None:
        """Read once an earlier reader of the same mapping has ended."""
        if before is not None:
            await asyncio.wait({before})
        await reader.read()

    async def _after(self, reading: _Reading, *, gone: bool) -> None:
        """Remove what a deleted mapping left at its source."""
        await asyncio.wait({reading.task})
        if gone and isinstance(reading.reader, StreamReader):
            await reading.reader.forget()

    def _reader(self, mapping: EventSourceMapping, note: Note) -> QueueReader | StreamReader | None:
        source = source_of(mapping.source)
        if source is not None and not source.streams:
            return QueueReader(
                mapping,
                self._queues,
                self._invoke,
                note=note,
                clock=self._clock,
                region=self._settings.region,
            )
        if not self._settings.redis_url:
            return None
        if self._redis is None:
            self._redis = Redis.from_url(self._settings.redis_url)
        place = Place(
            store=self._store,
            redis=self._redis,
            invoke=self._invoke,
            outbox=self._outbox,
            clock=self._clock,
            region=self._settings.region,
        )
        return StreamReader(mapping, place, note=note)

    async def _note(self, name: str, result: str) -> None:
        """Write what the last call came to, when that is news."""
        found = await self._records.at(name)
        if found is None or found[0].last_result == result:
            return
        await self._records.put(name, replace(found[0], last_result=result), expect=found[1])
