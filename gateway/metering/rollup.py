"""What was used from when to when: rollups, and what the log holds beyond them.

Each use counts once: a batch that a record does not include yet is added to it here.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.metering.batch import MINUTE_NS, BadBatch, Counted, Key, Sum, counted
from gateway.metering.sums import (
    SHARDS,
    Bucket,
    Level,
    Rollup,
    Span,
    folders,
    parted,
    prefix,
    read,
    shard_of,
    spanned,
)
from gateway.usage import LOG
from wherry.errors import WherryError
from wherry.store import Store

__all__ = ["Key", "Level", "Point", "Sum", "UsageGone", "series", "used"]

MOST_POINTS = 20_000
"""Most points in one `series`."""

PAGE = 64
"""Batches of the log that are read at a time."""

ROLLED = "usage/rolled"
"""The record of how far the log is rolled up, and what is kept."""

_WHOLE = 24 * 31 * 1440
"""Minutes of days over which all day records are listed at once."""


class UsageGone(WherryError):
    """A part of the asked time is only kept in longer steps."""

    def __init__(self, level: Level, minute: int) -> None:
        super().__init__(
            f"usage at {minute * 60} s since 1970: no longer kept by the {level.name.lower()}, "
            f"expected whole {'hours' if level is Level.MINUTE else 'days'} (UTC) for that time"
        )
        self.level, self.minute = level, minute


class Point(NamedTuple):
    """One step of a `series`.

    Attributes:
        at_ns: Unix nanoseconds where it begins.
        sum: What was used in it.
    """

    at_ns: int
    sum: Sum


@dataclass(frozen=True, slots=True)
class Progress:
    """How far rollups are.

    Attributes:
        offset: Every batch up to it is in its records.
        minutes_from: First minute whose minute records are kept.
        hours_from: First minute whose hour records are kept.
        revision: Of the record in the Store.
    """

    offset: int = 0
    minutes_from: int = 0
    hours_from: int = 0
    revision: int = 0

    def written(self) -> bytes:
        """Return the record's body."""
        return json.dumps([self.offset, self.minutes_from, self.hours_from]).encode()

    @classmethod
    async def of(cls, store: Store) -> "Progress":
        """Read it."""
        record = await store.get(ROLLED)
        if record is None:
            return cls()
        offset, minutes_from, hours_from = json.loads(record.body)
        return cls(offset, minutes_from, hours_from, record.revision)


async def used(
    store: Store,
    *,
    consumer: str | None = None,
    product: str | None = None,
    begins_ns: int,
    ends_ns: int,
) -> Mapping[Key, Sum]:
    """Return what was used from ``begins_ns`` to before ``ends_ns``, everything the log holds.

    Exact to the minute: the beginning is rounded down and the end up to a whole one, so times
    that meet at a whole minute neither overlap nor leave a gap.

    Args:
        store: Holds the log and the rollups.
        consumer: Only theirs; None is everyone's.
        product: Only of it; None is of all.
        begins_ns: Unix nanoseconds, at least 0.
        ends_ns: Unix nanoseconds.

    Raises:
        UsageGone: An edge lies in a time that is only kept in longer steps.
    """
    spans = list(spanned(begins_ns // MINUTE_NS, -(-ends_ns // MINUTE_NS)))
    total: dict[Key, Sum] = {}
    async for _, sums in _found(store, spans, consumer):
        for key, value in sums.items():
            if consumer in (None, key.consumer) and product in (None, key.product):
                total[key] = total[key].plus(value) if key in total else value
    return total


async def series(
    store: Store,
    *,
    consumer: str | None = None,
    product: str | None = None,
    meter: str,
    begins_ns: int,
    ends_ns: int,
    step: Level,
) -> list[Point]:
    """Return what was used of one meter in each step, empty ones too, oldest first.

    Args:
        store: Holds the log and the rollups.
        consumer: Only theirs; None is everyone's.
        product: Only of it; None is of all.
        meter: What is counted.
        begins_ns: Unix nanoseconds; rounded down to a whole step (UTC).
        ends_ns: Unix nanoseconds; rounded up.
        step: How long each is.

    Raises:
        UsageGone: That time is only kept in longer steps.
        ValueError: These are over `MOST_POINTS` steps.
    """
    size = step.value * MINUTE_NS
    first, last = begins_ns // size, -(-ends_ns // size)
    if last - first > MOST_POINTS:
        raise ValueError(f"series of {last - first} steps, expected at most {MOST_POINTS}")
    span = Span(step, first * step.value, last * step.value)
    points = dict.fromkeys(range(first, last), Sum())
    async for bucket, sums in _found(store, [span], consumer):
        at = bucket.start // step.value
        for key, value in sums.items():
            asked = consumer in (None, key.consumer) and product in (None, key.product)
            if asked and key.meter == meter:
                points[at] = points[at].plus(value)
    return [Point(at * size, value) for at, value in points.items()]


async def _found(
    store: Store, spans: Sequence[Span], consumer: str | None
) -> AsyncIterator[tuple[Bucket, Mapping[Key, Sum]]]:
    """Yield the sums of each bucket of the spans; those that no record has yet come last."""
    progress = await Progress.of(store)
    for span in spans:
        _expect_kept(progress, span)
    shards = range(SHARDS) if consumer is None else [shard_of(consumer)]
    included: dict[Bucket, int] = {}
    for span in spans:
        for shard in shards:
            for bucket, rollup in await _records(store, span, shard):
                included[bucket] = rollup.offset
                yield bucket, rollup.sums
    levels = {span.level for span in spans}
    async for offset, batch in _tail(store, progress.offset):
        for bucket, sums in parted(batch, levels).items():
            if offset > included.get(bucket, 0) and any(map(bucket.within, spans)):
                yield bucket, sums


async def _records(store: Store, span: Span, shard: int) -> list[tuple[Bucket, Rollup]]:
    level = span.level
    whole = level is Level.DAY and span.last - span.first > _WHOLE
    asked = [prefix(level, shard)] if whole else folders(level, shard, span.first, span.last)
    found = []
    for each in asked:
        for key, record in (await store.list(each)).items():
            bucket = Bucket.of(key)
            if bucket.within(span):
                found.append((bucket, read(key, record.body)))
    return found


async def _tail(store: Store, after: int) -> AsyncIterator[tuple[int, list[Counted]]]:
    """Yield what batches of the log beyond ``after`` add up to, with their offsets."""
    while events := await store.read(LOG, after, limit=PAGE):
        for event in events:
            try:
                batch = counted(event.body)
            except BadBatch:  # said by the roller
                continue
            yield event.offset, batch
        after = events[-1].offset
        if len(events) < PAGE:
            return


def _expect_kept(progress: Progress, span: Span) -> None:
    kept_from = {
        Level.MINUTE: progress.minutes_from,
        Level.HOUR: progress.hours_from,
        Level.DAY: 0,
    }[span.level]
    if span.first < kept_from:
        raise UsageGone(span.level, span.first)
