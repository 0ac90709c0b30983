"""Rollups kept up to date: one gateway of all that share a Store does it at a time.

Every record names the offset it includes, and how far all records are is written last. So
whatever is cut off is done again without counting twice, and two that roll at once only refuse
each other's writes.

What is rolled up is trimmed from the log in time, so that the log does not grow for ever.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gateway.metering.batch import MINUTE_NS, BadBatch, Counted, Key, Sum, counted
from gateway.metering.marks import MARKS, Marks
from gateway.metering.rollup import PAGE, ROLLED, Progress
from gateway.metering.sums import (
    SHARDS,
    Bucket,
    Level,
    Rollup,
    apply,
    folders,
    parted,
    read,
    written,
)
from gateway.recent import Recent
from gateway.usage import LOG
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Conflict, Event, LeaseLost, Store

logger = logging.getLogger(__name__)

LEASE = "usage/roller"
"""Who holds it rolls up."""

_LEASE_SECONDS = 30.0
_DAY = Level.DAY.value
_REMEMBERED = 256
_SWEPT_AGAIN = 3 * _DAY
_MANY = 200
_REST = 10.0
"""How many times as long as a pass the roller rests after it, so that it takes little."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long usage is kept, in days; rollups of days stay.

    Attributes:
        minutes: At least 1. Time zones that are not whole hours from UTC need them for the
            edges of billing periods.
        hours: At least 1.
        events: The log itself, single uses; at least 1.
        ids: For how long a use that comes again is known and counts once; at least ``events``.
    """

    minutes: int = 100
    hours: int = 800
    events: int = 90
    ids: int = 180


class Roller:
    """Adds the log up.

    Args:
        store: Holds the log and the rollups.
        clock: Where the time is read, for what is kept.
        retention: See `Retention`.
        seconds: Between two looks at the log.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        retention: Retention | None = None,
        seconds: float = 5.0,
    ) -> None:
        self._store, self._clock, self._seconds = store, clock, seconds
        self._retention = retention or Retention()
        self._holder = secrets.token_hex(8)
        self._known: Recent[Bucket, tuple[int, Rollup]] = Recent(_REMEMBERED)
        self._failing = False
        self._trimmed = -1

    async def run(self) -> None:
        """Roll up until cancelled, whenever no other gateway does."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self._turn()
                taken = loop.time() - began
                await asyncio.sleep(max(self._seconds, taken * _REST))
        finally:
            with suppress(WherryError):
                lease = await self._store.lease(LEASE, self._holder, seconds=1.0)
                await self._store.release(lease)

    async def roll(self) -> bool:
        """Add one page of the log to its records; return whether there may be more.

        Raises:
            Conflict: Another rolls up, too; what is in the records is right all the same.
        """
        progress = await Progress.of(self._store)
        events = await self._store.read(LOG, progress.offset, limit=PAGE)
        if not progress.revision or self._stale(progress):
            progress = await self._forget(progress)
        if not events:
            return False
        for bucket, added in self._parted(events, progress).items():
            await self._add(bucket, added)
        done = replace(progress, offset=events[-1].offset)
        await self._store.put(ROLLED, done.written(), expect=progress.revision)
        return len(events) == PAGE

    async def trim(self) -> bool:
        """Remove from the log what is rolled up and old enough; return whether there may be more.

        Raises:
            Conflict: Another rolls up, too.
        """
        today = self._clock.unix_ns() // MINUTE_NS // _DAY
        if today == self._trimmed:
            return False
        marks, progress = await Marks.of(self._store), await Progress.of(self._store)
        noted = marks.noted(today, progress.offset).since(today - self._retention.ids)
        if noted.days != marks.days:
            await self._store.put(MARKS, noted.written(), expect=marks.revision)
        before = noted.through(today - self._retention.events) + 1
        forget = noted.through(today - self._retention.ids) + 1
        if await self._store.trim(LOG, before, forget=forget):
            return True
        self._trimmed = today
        return False

    async def _turn(self) -> None:
        try:
            await self._store.lease(LEASE, self._holder, seconds=_LEASE_SECONDS)
            while await self.roll() or await self.trim():
                await self._store.lease(LEASE, self._holder, seconds=_LEASE_SECONDS)
        except LeaseLost:
            self._known.clear()
        except Conflict:
            self._known.clear()
            logger.info("rollups are written by another, too")
        except WherryError as error:
            self._known.clear()
            if not self._failing:
                logger.warning("usage cannot be rolled up", extra={"why": str(error)})
            self._failing = True
        else:
            self._failing = False

    def _parted(
        self, events: Sequence[Event], progress: Progress
    ) -> Mapping[Bucket, list[tuple[int, Mapping[Key, Sum]]]]:
        found: dict[Bucket, list[tuple[int, Mapping[Key, Sum]]]] = {}
        kept = {Level.MINUTE: progress.minutes_from, Level.HOUR: progress.hours_from, Level.DAY: 0}
        for event in events:
            for bucket, sums in parted(_batch(event), Level).items():
                if bucket.start >= kept[bucket.level]:
                    found.setdefault(bucket, []).append((event.offset, sums))
        return found

    async def _add(self, bucket: Bucket, added: list[tuple[int, Mapping[Key, Sum]]]) -> None:
        known = self._known.get(bucket)
        if known is not None:
            revision, before = known
        else:
            record = await self._store.get(bucket.key)
            revision = record.revision if record else 0
            before = read(record.key, record.body) if record else Rollup()
        after = apply(before, added)
        if after.offset == before.offset:
            return
        many = len(after.sums) > _MANY
        body = await asyncio.to_thread(written, after) if many else written(after)
        put = await self._store.put(bucket.key, body, expect=revision)
        self._known.put(bucket, (put.revision, after))

    def _stale(self, progress: Progress) -> bool:
        minutes, hours = self._kept_from()
        return progress.minutes_from < minutes or progress.hours_from < hours

    def _kept_from(self) -> tuple[int, int]:
        today = self._clock.unix_ns() // MINUTE_NS // _DAY
        kept = self._retention
        return (
            max(0, today - kept.minutes) * _DAY,
            max(0, today - kept.hours) * _DAY,
        )

    async def _forget(self, progress: Progress) -> Progress:
        """Say what is no longer kept, then remove it."""
        minutes, hours = self._kept_from()
        minutes, hours = max(minutes, progress.minutes_from), max(hours, progress.hours_from)
        now = replace(progress, minutes_from=minutes, hours_from=hours)
        record = await self._store.put(ROLLED, now.written(), expect=progress.revision)
        if progress.revision:
            await self._remove(Level.MINUTE, progress.minutes_from - _SWEPT_AGAIN, minutes)
            await self._remove(Level.HOUR, progress.hours_from - _SWEPT_AGAIN, hours)
        return replace(now, revision=record.revision)

    async def _remove(self, level: Level, first: int, last: int) -> None:
        for shard in range(SHARDS):
            for folder in folders(level, shard, max(0, first), last):
                for key in await self._store.list(folder):
                    await self._store.delete(key)


def _batch(event: Event) -> list[Counted]:
    """Return what an event adds up to; one that is no batch adds nothing, and is said."""
    try:
        return counted(event.body)
    except BadBatch:
        logger.exception("an event of the usage log is no batch", extra={"offset": event.offset})
        return []
