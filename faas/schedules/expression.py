"""EventBridge's schedule expressions: when is the next time after another? Pure.

Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from wherry.errors import WherryError

_EXPRESSION = re.compile(r"(?P<kind>rate|cron)\((?P<inside>[^()]{1,200})\)(?: +(?P<zone>\S+))?")
_RATE = re.compile(r"(?P<value>[1-9]\d{0,8}) +(?P<unit>minute|hour|day)(?P<many>s?)")
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_MONTHS = {name.upper(): n for n, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: n for n, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_FIELDS = 6
_WEEK = 7


class BadSchedule(WherryError):
    """A text is no schedule expression."""

    def __init__(self, text: str, found: str) -> None:
        super().__init__(
            f"schedule {text[:100]!r}: {found}, expected rate(VALUE UNIT) such as rate(5 minutes) "
            "or cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR) such as "
            "cron(0 9 ? * MON-FRI *), perhaps with a time zone behind it"
        )
        self.text = text


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so many seconds, counted from when the schedule was declared."""

    seconds: int

    def after(self, now: float, *, declared: float) -> float | None:
        """Return the first time over ``now``; all are Unix seconds."""
        if now < declared:
            return declared + self.seconds
        return declared + (int((now - declared) // self.seconds) + 1) * self.seconds


@dataclass(frozen=True, slots=True)
class _DayOfMonth:
    """Which days of a month: numbers, the last but some, weekdays next to a number."""

    days: frozenset[int] = frozenset()
    last: int | None = None
    nearest: int | None = None
    last_weekday: bool = False

    def holds(self, day: date) -> bool:
        length = calendar.monthrange(day.year, day.month)[1]
        if self.last is not None:
            return day.day == length - self.last
        if self.last_weekday:
            return day.day == _weekday_near(day.replace(day=length)).day
        if self.nearest is not None:
            return self.nearest <= length and day == _weekday_near(day.replace(day=self.nearest))
        return day.day in self.days


@dataclass(frozen=True, slots=True)
class _DayOfWeek:
    """Which weekdays, 1 for Sunday: numbers, the last one or the n-th one of the month."""

    days: frozenset[int] = frozenset()
    last: int | None = None
    nth: tuple[int, int] | None = None

    def holds(self, day: date) -> bool:
        weekday = day.isoweekday() % _WEEK + 1
        if self.last is not None:
            left = calendar.monthrange(day.year, day.month)[1] - day.day
            return weekday == self.last and left < _WEEK
        if self.nth is not None:
            return (weekday, (day.day - 1) // _WEEK + 1) == self.nth
        return weekday in self.days


@dataclass(frozen=True, slots=True)
class Cron:
    """Times of a calendar, to the minute.

    Attributes:
        day: Rule for days; the other of the two day fields is ``?``.
        zone: Whose clock it is. A time that the clock leaps over is left out, one that it shows
            twice counts once, the first time.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day: _DayOfMonth | _DayOfWeek
    months: frozenset[int]
    years: frozenset[int]
    zone: ZoneInfo | None

    def after(self, now: float, *, declared: float) -> float | None:
        """Return the first time over ``now`` in Unix seconds; None: there is none any more."""
        zone = self.zone or UTC
        start = datetime.fromtimestamp(now, zone).date() - timedelta(days=1)
        for day in self._days(start):
            for hour in self.hours:
                for minute in self.minutes:
                    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    moment = local.astimezone(UTC)
                    real = moment.astimezone(zone).replace(tzinfo=None)
                    if moment.timestamp() > now and real == local.replace(tzinfo=None):
                        return moment.timestamp()
        return None

    def _days(self, start: date) -> Iterator[date]:
        for year in sorted(year for year in self.years if year >= start.year):
            for month in sorted(self.months):
                for number in range(1, calendar.monthrange(year, month)[1] + 1):
                    day = date(year, month, number)
                    if day >= start and self.day.holds(day):
                        yield day


Schedule = Rate | Cron


def parsed(text: str) -> Schedule:
    """Return the schedule that an expression describes; without a time zone it is in UTC.

    Raises:
        BadSchedule: It is none.
    """
    found = _EXPRESSION.fullmatch(text.strip())
    if found is None:
        raise BadSchedule(text, "not of a known form")
    if found["kind"] == "cron":
        return _cron(text, found["inside"].split(), _zone(text, found["zone"]))
    rate = _RATE.fullmatch(found["inside"].strip())
    if rate is None or found["zone"]:
        raise BadSchedule(text, "not a value and a unit")
    value = int(rate["value"])
    if (value == 1) is bool(rate["many"]):
        raise BadSchedule(text, f"{value} {rate['unit']}{rate['many']}")
    return Rate(value * _SECONDS[rate["unit"]])


def _zone(text: str, name: str | None) -> ZoneInfo | None:
    if name is None or name == "UTC":
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadSchedule(text, f"unknown time zone {name}") from None


def _cron(text: str, fields: list[str], zone: ZoneInfo | None) -> Cron:
    if len(fields) != _FIELDS:
        raise BadSchedule(text, f"{len(fields)} fields")
    minutes, hours, of_month, months, of_week, years = (each.upper() for each in fields)
    if (of_month == "?") is (of_week == "?"):
        raise BadSchedule(text, "day of month and day of week, exactly one of which must be ?")
    try:
        return Cron(
            minutes=tuple(sorted(_numbers(minutes, 0, 59))),
            hours=tuple(sorted(_numbers(hours, 0, 23))),
            day=_day_of_week(of_week) if of_month == "?" else _day_of_month(of_month),
            months=_numbers(months, 1, 12, _MONTHS),
            years=_numbers(years, _FIRST_YEAR, _LAST_YEAR),
            zone=zone,
        )
    except ValueError as error:
        raise BadSchedule(text, str(error)) from None


def _day_of_month(field: str) -> _DayOfMonth:
    if field == "L":
        return _DayOfMonth(last=0)
    if field == "LW":
        return _DayOfMonth(last_weekday=True)
    if field.startswith("L-"):
        return _DayOfMonth(last=_number(field[2:], 1, 30, {}))
    if field.endswith("W"):
        return _DayOfMonth(nearest=_number(field[:-1], 1, 31, {}))
    return _DayOfMonth(_numbers(field, 1, 31))


def _day_of_week(field: str) -> _DayOfWeek:
    if field == "L":
        return _DayOfWeek(frozenset({7}))
    if field.endswith("L"):
        return _DayOfWeek(last=_number(field[:-1], 1, 7, _DAYS))
    day, hash_sign, nth = field.partition("#")
    if hash_sign:
        return _DayOfWeek(nth=(_number(day, 1, 7, _DAYS), _number(nth, 1, 5, {})))
    return _DayOfWeek(_numbers(field, 1, 7, _DAYS))


def _numbers(field: str, least: int, most: int, names: Mapping[str, int] = {}) -> frozenset[int]:
    """Return what a field of lists, ranges and steps holds.

    Raises:
        ValueError: It is not of that form, or out of bounds.
    """
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = least, most
        else:
            start = _number(first, least, most, names)
            end = _number(last, least, most, names) if dash else most if slash else start
        every = _number(step, 1, most, {}) if slash else 1
        found.update(range(start, end + 1, every))
        if start > end:
            if names is not _DAYS:
                raise ValueError(f"range {span}")
            found.update([*range(start, most + 1), *range(least, end + 1)])
    return frozenset(found)


def _number(text: str, least: int, most: int, names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    if not (text.isascii() and text.isdigit() and len(text) < _FIELDS):
        raise ValueError(f"value {text!r}")
    if not least <= int(text) <= most:
        raise ValueError(f"value {text}, out of {least} to {most}")
    return int(text)


def _weekday_near(day: date) -> date:
    """Return the day from Monday to Friday that is nearest to ``day`` in the same month."""
    length = calendar.monthrange(day.year, day.month)[1]
    match day.isoweekday():
        case 6:
            return day - timedelta(days=1) if day.day > 1 else day + timedelta(days=2)
        case 7:
            return day + timedelta(days=1) if day.day < length else day - timedelta(days=2)
        case _:
            return day
