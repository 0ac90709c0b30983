"""Stretches of time as the steps of a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.limits.allowance import windows_of
from gateway.limits.windows import Window
from gateway.portal.parts import Point, Step
from wherry.model.plan import Quota

MINUTE, HOUR, DAY = 60 * 10**9, 3600 * 10**9, 86_400 * 10**9

_MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Timeline:
    """Beginnings of steps, each of which lasts until the next one begins.

    Attributes:
        begins: Unix nanoseconds, rising; at least one.
        ends: Where the last one ends.
        grain: In which steps usage has to be asked for.
        daily: Whether steps are days, rather than times of a day.
        zone: Where days begin.
    """

    begins: Sequence[int]
    ends: int
    grain: Step
    daily: bool
    zone: ZoneInfo

    def sums(self, points: Sequence[Point]) -> list[int]:
        """Return the amount in each step.

        Args:
            points: In order of time; what is outside of the steps is left out.
        """
        sums, place = [0] * len(self.begins), 0
        for point in points:
            while place + 1 < len(sums) and self.begins[place + 1] <= point.begins_ns:
                place += 1
            if self.begins[0] <= point.begins_ns < self.ends:
                sums[place] += point.amount
        return sums

    def happened(self, now_ns: int) -> int:
        """Return how many of the steps have begun."""
        return sum(1 for begins in self.begins if begins <= now_ns)

    def labels(self) -> list[str]:
        """Return the name of each step."""
        at = [datetime.fromtimestamp(each // 10**9, self.zone) for each in self.begins]
        return [f"{each:%d %b}".lstrip("0") if self.daily else f"{each:%H:%M}" for each in at]


def window(quota: Quota, zone: ZoneInfo, now_ns: int, begins: str | None) -> Window:
    """Return the window that a quota counts in now, widened to whole minutes.

    Args:
        quota: Of a plan.
        zone: The consumer's; of calendar windows when the quota names none.
        now_ns: Unix nanoseconds.
        begins: First day of the subscription; None is 1970.
    """
    now = windows_of(quota, zone.key, begins)(now_ns)
    return Window(now.begins // MINUTE * MINUTE, -(-now.ends // MINUTE) * MINUTE)


def across(now: Window, zone: ZoneInfo) -> Timeline:
    """Return steps across a window, few enough to see each."""
    length = now.ends - now.begins
    if length <= 3 * HOUR:
        every = max(1, length // 60 // MINUTE) * MINUTE
        return Timeline(range(now.begins, now.ends, every), now.ends, "minute", False, zone)
    if length <= 3 * DAY:
        return Timeline(range(now.begins, now.ends, HOUR), now.ends, "hour", False, zone)
    days = max(1, length // DAY // _MOST_STEPS)
    first = datetime.fromtimestamp(now.begins // 10**9, zone)
    found: list[int] = []
    while (at := _unix(first + timedelta(days=days * len(found)))) < now.ends:
        found.append(at)
    return Timeline(found, now.ends, "hour", True, zone)


def last_hours(count: int, now_ns: int, zone: ZoneInfo) -> Timeline:
    """Return the hour that it is at ``now_ns`` and those before it."""
    ends = (now_ns // HOUR + 1) * HOUR
    return Timeline(range(ends - count * HOUR, ends, HOUR), ends, "hour", False, zone)


def last_days(count: int, now_ns: int, zone: ZoneInfo) -> Timeline:
    """Return the day that it is at ``now_ns`` in ``zone`` and those before it."""
    now = datetime.fromtimestamp(now_ns // 10**9, zone)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = [_unix(today - timedelta(days=n)) for n in reversed(range(count))]
    ends = _unix(today + timedelta(days=1))
    return Timeline(begins, ends, "hour", True, zone)


def _unix(at: datetime) -> int:
    return round(at.timestamp()) * 10**9
