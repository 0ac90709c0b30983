"""Days as they pass where somebody lives, and instants as people and programs read them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def midnight_ns(day: date, zone: ZoneInfo) -> int:
    """Return when ``day`` begins in ``zone``, in Unix nanoseconds.

    Where clocks go from midnight straight to one o'clock, that is one o'clock; where midnight
    comes twice, it is the first.
    """
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 10**9


def day_at(unix_ns: int, zone: ZoneInfo) -> date:
    """Return the day that it is at ``unix_ns`` in ``zone``."""
    return datetime.fromtimestamp(unix_ns // 10**9, zone).date()


def written(unix_ns: int) -> str:
    """Return Unix nanoseconds as an RFC 3339 time in UTC, exactly."""
    whole, rest = divmod(unix_ns, 10**9)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def to_the_second(unix_ns: int) -> str:
    """Return Unix nanoseconds as an RFC 3339 time in UTC, without a fraction."""
    return written(unix_ns // 10**9 * 10**9)
