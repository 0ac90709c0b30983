"""Windows of time that a quota is counted in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.days import day_at, midnight_ns

SECOND = 1_000_000_000
_HOUR, _DAY = 3600, 86_400
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time.

    Attributes:
        begins: Unix nanoseconds of its first instant.
        ends: Unix nanoseconds of the first instant after it.
        name: Tells it from others of its kind. One that begins with a day has the same name in
            all zones, so that who moves to another zone goes on with the same count.
    """

    begins: int
    ends: int
    name: int = field(default=0, compare=False)


Windows = Callable[[int], Window]
"""Gives the window that an instant (Unix nanoseconds) lies in; windows leave no gap."""


def calendar(kind: str, zone: ZoneInfo) -> Windows:
    """Return the windows of a calendar.

    A day that loses or gains an hour to summer time is one window, as is a month that does. An
    hour or minute that comes twice is two windows. Weeks begin on Monday.

    Args:
        kind: ``minute``, ``hour``, ``day``, ``week``, ``month`` or ``year``.
        zone: Where they begin.

    Raises:
        ValueError: There is no such kind.
    """
    match kind:
        case "minute" | "hour":
            return _Clock(zone, 60 if kind == "minute" else _HOUR).at
        case "day" | "week" | "month" | "year":
            return _Days(zone, kind).at
        case _:
            raise ValueError(f"window {kind!r}: expected a calendar window")


def anchored(since: date, zone: ZoneInfo, every: int) -> Windows:
    """Return windows of ``every`` nanoseconds (at least 1), one of which begins with ``since``."""
    begins, name = midnight_ns(since, zone), _named(since)

    def at(now: int) -> Window:
        passed = (now - begins) // every * every
        return Window(begins + passed, begins + passed + every, name + passed // SECOND)

    return at


@dataclass(frozen=True, slots=True)
class _Clock:
    zone: ZoneInfo
    length: int

    def at(self, now: int) -> Window:
        """Cut at whole minutes or hours of the zone's clock."""
        instant = now // SECOND
        offset = datetime.fromtimestamp(instant, self.zone).utcoffset() or timedelta()
        start = instant - (instant + round(offset.total_seconds())) % self.length
        return Window(start * SECOND, (start + self.length) * SECOND, start)


@dataclass(frozen=True, slots=True)
class _Days:
    zone: ZoneInfo
    kind: str

    def at(self, now: int) -> Window:
        """Cut at midnights of the zone."""
        first, after = _around(self.kind, day_at(now, self.zone))
        ends = midnight_ns(after, self.zone)
        return Window(midnight_ns(first, self.zone), ends, _named(first))


def _named(day: date) -> int:
    return (day - _EPOCH).days * _DAY


def _around(kind: str, today: date) -> tuple[date, date]:
    """Return the first day of the window with ``today``, and the first day after it."""
    match kind:
        case "day":
            return today, today + timedelta(days=1)
        case "week":
            first = today - timedelta(days=today.weekday())
            return first, first + timedelta(days=7)
        case "month":
            first = today.replace(day=1)
            return first, (first + timedelta(days=31)).replace(day=1)
        case _:
            first = today.replace(month=1, day=1)
            return first, first.replace(year=first.year + 1)
