"""Rollups as values: records of a minute, an hour or a day, and what each already holds.

A record names the last offset of the log that it includes, so that a batch counts once in it,
however often it is applied. Records are kept for each of `SHARDS` groups of consumers.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from gateway.metering.batch import Counted, Key, Sum
from wherry.errors import WherryError

SHARDS = 8
"""Groups of consumers whose sums share records."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_UNPACKED = 256 << 20


class Level(IntEnum):
    """How long a record's time is; the value is in minutes."""

    MINUTE = 1
    HOUR = 60
    DAY = 1440


class BadRollup(WherryError):
    """A rollup record cannot be read."""

    def __init__(self, key: str, found: str) -> None:
        super().__init__(f"rollup {key!r}: {found}, expected what the gateway writes")
        self.key = key


class Span(NamedTuple):
    """Minutes that records of one level cover whole.

    Attributes:
        first: First minute.
        last: First minute behind it.
    """

    level: Level
    first: int
    last: int


class Bucket(NamedTuple):
    """What one record is of.

    Attributes:
        level: How long.
        start: First minute, since the epoch.
        shard: Which consumers, from 0.
    """

    level: Level
    start: int
    shard: int

    @property
    def key(self) -> str:
        """Name of the Store's record."""
        folder, leaf = _LEAF[self.level]
        at = _EPOCH + timedelta(minutes=self.start)
        return f"{prefix(self.level, self.shard)}{at.strftime(folder)}/{at.strftime(leaf)}"

    def within(self, span: Span) -> bool:
        """Return whether ``span`` covers it."""
        return self.level is span.level and span.first <= self.start < span.last

    @classmethod
    def of(cls, key: str) -> "Bucket":
        """Return the bucket of the record ``key``.

        Raises:
            BadRollup: It is the key of none.
        """
        try:
            _, name, shard, folder, leaf = key.split("/")
            level = Level[name.upper()]
            at = datetime.fromisoformat(f"{folder}{_BETWEEN[level]}{leaf}").replace(tzinfo=UTC)
            return cls(level, (at - _EPOCH) // timedelta(minutes=1), int(shard))
        except (ValueError, KeyError):
            raise BadRollup(key, "another key") from None


_LEAF: Mapping[Level, tuple[str, str]] = {
    Level.MINUTE: ("%Y-%m-%dT%H", "%M"),
    Level.HOUR: ("%Y-%m-%d", "%H"),
    Level.DAY: ("%Y-%m", "%d"),
}
_BETWEEN = {Level.MINUTE: ":", Level.HOUR: "T", Level.DAY: "-"}


@dataclass(frozen=True, slots=True)
class Rollup:
    """The sums of one bucket.

    Attributes:
        offset: Last offset of the log that is included; of the bucket's own batches every one
            up to it is.
        sums: By what they are of.
    """

    offset: int = 0
    sums: Mapping[Key, Sum] = field(default_factory=dict)


@lru_cache(1 << 16)
def shard_of(consumer: str) -> int:
    """Return which group ``consumer`` is in."""
    return zlib.crc32(consumer.encode("utf-8", "surrogatepass")) % SHARDS


def prefix(level: Level, shard: int) -> str:
    """Return what the keys of all such records start with."""
    return f"usage/{level.name.lower()}/{shard}/"


def folders(level: Level, shard: int, first: int, last: int) -> Iterator[str]:
    """Yield prefixes that together name every record from minute ``first`` to before ``last``."""
    written = ""
    at = first
    step = {Level.MINUTE: 60, Level.HOUR: 1440, Level.DAY: 1440}[level]
    while at < last:
        name = (_EPOCH + timedelta(minutes=at)).strftime(_LEAF[level][0])
        if name != written:
            yield f"{prefix(level, shard)}{name}/"
        written = name
        at += step - at % step


def parted(batch: Iterable[Counted], levels: Iterable[Level]) -> Mapping[Bucket, dict[Key, Sum]]:
    """Return what a batch adds to each bucket."""
    minutes: dict[tuple[int, int], dict[Key, Sum]] = {}
    for minute, sums in batch:
        for key, value in sums.items():
            _more(minutes.setdefault((minute, shard_of(key.consumer)), {}), key, value)
    found: dict[Bucket, dict[Key, Sum]] = {}
    for level in levels:
        for (minute, shard), sums in minutes.items():
            into = found.setdefault(Bucket(level, minute - minute % level, shard), {})
            for key, value in sums.items():
                _more(into, key, value)
    return found


def _more(sums: dict[Key, Sum], key: Key, value: Sum) -> None:
    before = sums.get(key)
    sums[key] = value if before is None else before.plus(value)


def apply(rollup: Rollup, batches: Iterable[tuple[int, Mapping[Key, Sum]]]) -> Rollup:
    """Return ``rollup`` with the batches that it does not include yet.

    Args:
        rollup: As it was.
        batches: Offset and sums for this bucket, in the order of the log.
    """
    offset, sums = rollup.offset, dict(rollup.sums)
    for at, added in batches:
        if at <= offset:
            continue
        offset = at
        for key, value in added.items():
            _more(sums, key, value)
    return Rollup(offset, sums)


def written(rollup: Rollup) -> bytes:
    """Return the record's body."""
    rows = [(*key, *value) for key, value in rollup.sums.items()]
    text = json.dumps([rollup.offset, rows], separators=(",", ":"))
    return zlib.compress(text.encode(), 1)


def read(key: str, body: bytes) -> Rollup:
    """Return the rollup in the record ``key``.

    Raises:
        BadRollup: It is none.
    """
    try:
        text = zlib.decompressobj().decompress(body, _MOST_UNPACKED)
        offset, rows = json.loads(text)
        sums = {Key(*row[:6]): Sum(*row[6:]) for row in rows}
        return Rollup(int(offset), sums)
    except (zlib.error, TypeError, ValueError) as error:
        raise BadRollup(key, str(error)) from None


def spanned(first: int, last: int) -> Iterator[Span]:
    """Yield the longest records that cover the minutes from ``first`` to before ``last``."""
    at = first
    while at < last:
        for level in (Level.DAY, Level.HOUR, Level.MINUTE):
            size = level.value
            if at % size or at + size > last:
                continue
            bigger = {Level.MINUTE: Level.HOUR, Level.HOUR: Level.DAY}.get(level)
            end = last - last % size
            if bigger is not None:
                end = min(end, at - at % bigger.value + bigger.value)
            yield Span(level, at, end)
            at = end
            break
