"""Windows of time that a quota is counted in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND = 1_000_000_000
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time.

    Attributes:
        begins: Unix nanoseconds of its first instant.
        ends: Unix nanoseconds of the first instant after it.
    """

    begins: int
    ends: int


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


def anchored(begins: int, every: int) -> Windows:
    """Return windows of ``every`` nanoseconds (at least 1), one of which begins at ``begins``."""

    def at(now: int) -> Window:
        start = begins + (now - begins) // every * every
        return Window(start, start + every)

    return at


def midnight(day: date, zone: ZoneInfo) -> int:
    """Return when ``day`` begins in ``zone``, as Unix nanoseconds.

    Where clocks go from midnight straight to one o'clock, that is one o'clock; where midnight
    comes twice, it is the first.
    """
    begins = datetime(day.year, day.month, day.day, tzinfo=zone)
    return round(begins.timestamp()) * SECOND


@dataclass(frozen=True, slots=True)
class _Clock:
    zone: ZoneInfo
    length: int

    def at(self, now: int) -> Window:
        """Cut at whole minutes or hours of the zone's clock."""
        instant = now // SECOND
        offset = datetime.fromtimestamp(instant, self.zone).utcoffset() or timedelta()
        start = instant - (instant + round(offset.total_seconds())) % self.length
        return Window(start * SECOND, (start + self.length) * SECOND)


@dataclass(frozen=True, slots=True)
class _Days:
    zone: ZoneInfo
    kind: str

    def at(self, now: int) -> Window:
        """Cut at midnights of the zone."""
        today = datetime.fromtimestamp(now // SECOND, self.zone).date()
        first, after = _around(self.kind, today)
        return Window(midnight(first, self.zone), midnight(after, self.zone))


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
