"""Billing periods: calendar months, as they pass where the consumer lives.

A period is named by its month. It begins at the instant where the one before it ended and ends at
the next month's first midnight in the zone that the consumer has when it is closed. So a change
of zone in mid-period makes that one period some hours longer or shorter, and no hour is lost or
billed twice. Fees go by the days of the calendar, which have no zone.
"""

import calendar
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from functools import cached_property
from zoneinfo import ZoneInfo

from gateway import days
from wherry.errors import WherryError

_FORM = re.compile(r"(20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])", re.ASCII)


class BadMonth(WherryError):
    """A text names no month."""

    def __init__(self, text: str) -> None:
        super().__init__(f"month {text[:40]!r}: expected one like '2026-11'")
        self.text = text


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of the calendar.

    Attributes:
        year: 2000 to 2199.
        number: 1 to 12.
    """

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Read ``YYYY-MM``.

        Raises:
            BadMonth: It is not of that form.
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise BadMonth(text)
        return cls(int(form[1]), int(form[2]))

    @classmethod
    def at(cls, unix_ns: int, zone: str) -> "Month":
        """Return the month that it is at ``unix_ns`` in ``zone``."""
        day = day_at(unix_ns, zone)
        return cls(day.year, day.month)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def title(self) -> str:
        """In words: ``November 2026``."""
        return f"{calendar.month_name[self.number]} {self.year}"

    @property
    def first(self) -> date:
        """Its first day."""
        return date(self.year, self.number, 1)

    @property
    def days(self) -> int:
        """How many it has."""
        return calendar.monthrange(self.year, self.number)[1]

    @property
    def after(self) -> "Month":
        """The next one."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def before(self) -> "Month":
        """The one before."""
        return Month(self.year - (self.number == 1), (self.number - 2) % 12 + 1)


def midnight_ns(day: date, zone: str) -> int:
    """Return the instant at which ``day`` begins in ``zone``; see `gateway.days.midnight_ns`."""
    return days.midnight_ns(day, ZoneInfo(zone))


def day_at(unix_ns: int, zone: str) -> date:
    """Return the day that it is at ``unix_ns`` in ``zone``."""
    return days.day_at(unix_ns, ZoneInfo(zone))


@dataclass(frozen=True, slots=True)
class Period:
    """What one invoice is for.

    Attributes:
        month: Its name.
        zone: Where its end is midnight.
        begins_ns: First instant, in Unix nanoseconds.
        ends_ns: First instant that is no longer part of it.
    """

    month: Month
    zone: str
    begins_ns: int
    ends_ns: int

    @classmethod
    def of(cls, month: Month, zone: str, *, after_ns: int | None = None) -> "Period":
        """Return the period of ``month``.

        Args:
            month: Its name.
            zone: Of the consumer, now.
            after_ns: End of the period before; None when there is none.
        """
        begins = midnight_ns(month.first, zone) if after_ns is None else after_ns
        return cls(month, zone, begins, midnight_ns(month.after.first, zone))


@dataclass(frozen=True)
class Days:
    """Some days of a month.

    Attributes:
        spans: From and up to, counted from 0; apart from each other, in order.
        of: How many days the month has.
        origin: Day from which pieces of an amount are measured, so that neighbours add up: the
            first that any of them has.
    """

    spans: tuple[tuple[int, int], ...]
    of: int
    origin: int = 0

    @classmethod
    def within(cls, month: Month, stretches: Iterable[tuple[date | None, date | None]]) -> "Days":
        """Return the days of ``month`` in any stretch: from a day up to one; None is no bound."""
        return cls(tuple(_merged(_clipped(month, stretches))), month.days)

    @cached_property
    def count(self) -> int:
        """How many they are."""
        return sum(end - begin for begin, end in self.spans)

    @property
    def share(self) -> Fraction:
        """Their part of the month, 0 to 1."""
        return Fraction(self.count, self.of)

    @property
    def measured(self) -> Iterator[tuple[Fraction, Fraction]]:
        """Yield each span as parts of the month after the origin."""
        for span in self.spans:
            begin, end = (Fraction(at - self.origin, self.of) for at in span)
            yield begin, end

    def dates(self, month: Month) -> Iterator[tuple[date, date]]:
        """Yield first and last day of each span."""
        for begin, end in self.spans:
            yield month.first + timedelta(begin), month.first + timedelta(end - 1)


def _clipped(
    month: Month, stretches: Iterable[tuple[date | None, date | None]]
) -> Iterator[tuple[int, int]]:
    for begins, ends in stretches:
        first = 0 if begins is None else max(0, (begins - month.first).days)
        last = month.days if ends is None else min(month.days, (ends - month.first).days)
        if first < last:
            yield first, last


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    held: tuple[int, int] | None = None
    for begin, end in sorted(spans):
        if held is not None and begin <= held[1]:
            held = held[0], max(held[1], end)
            continue
        if held is not None:
            yield held
        held = begin, end
    if held is not None:
        yield held
