"""A billing month follows the consumer's clock, and no hour is lost or billed twice."""

from datetime import UTC, date, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.periods import BadMonth, Days, Month, Period, day_at, midnight_ns

HOUR = 3600 * 10**9
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "America/Asuncion",
        "Africa/Cairo",
        "Asia/Kathmandu",
        "Asia/Beirut",
        "Australia/Lord_Howe",
        "Pacific/Kiritimati",
        "Pacific/Niue",
    ]
)
MONTHS = st.builds(Month, st.integers(2000, 2100), st.integers(1, 12))


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def test_a_month_begins_at_the_consumers_midnight():
    period = Period.of(Month(2026, 11), "Europe/Berlin")
    assert period.begins_ns == utc("2026-10-31T23:00")
    assert period.ends_ns == utc("2026-11-30T23:00")


def test_the_month_in_which_clocks_go_forward_is_an_hour_shorter():
    march = Period.of(Month(2026, 3), "Europe/Berlin")
    october = Period.of(Month(2026, 10), "Europe/Berlin")
    assert march.ends_ns - march.begins_ns == (31 * 24 - 1) * HOUR
    assert october.ends_ns - october.begins_ns == (31 * 24 + 1) * HOUR


def test_a_midnight_that_the_clocks_jump_over_is_the_instant_of_the_jump():
    assert midnight_ns(date(2026, 3, 8), "America/Havana") == utc("2026-03-08T05:00")
    assert day_at(utc("2026-03-08T05:00") - 1, "America/Havana") == date(2026, 3, 7)
    assert day_at(utc("2026-03-08T05:00"), "America/Havana") == date(2026, 3, 8)


def test_of_two_midnights_the_first_begins_the_day():
    assert midnight_ns(date(2026, 11, 1), "America/Havana") == utc("2026-11-01T04:00")


def test_a_zone_changed_in_mid_period_makes_that_period_longer_and_the_next_one_follows_it():
    november = Period.of(Month(2026, 11), "Europe/Berlin")
    december = Period.of(Month(2026, 12), "America/New_York", after_ns=november.ends_ns)
    assert december.begins_ns == november.ends_ns
    assert december.ends_ns == utc("2027-01-01T05:00")
    assert december.ends_ns - december.begins_ns == (31 * 24 + 6) * HOUR


@given(MONTHS, st.lists(ZONES, min_size=1, max_size=24))
def test_whatever_zones_follow_each_other_periods_share_no_instant_and_leave_none_out(month, zones):
    before = None
    for zone in zones:
        after_ns = None if before is None else before.ends_ns
        period = Period.of(month, zone, after_ns=after_ns)
        assert before is None or period.begins_ns == before.ends_ns
        assert 26 * 24 * HOUR < period.ends_ns - period.begins_ns < 33 * 24 * HOUR
        month, before = month.after, period


@given(MONTHS, ZONES)
def test_the_instants_of_a_month_are_those_that_its_zone_calls_so(month, zone):
    period = Period.of(month, zone)
    assert Month.at(period.begins_ns, zone) == month
    assert Month.at(period.ends_ns - 1, zone) == month
    assert Month.at(period.ends_ns, zone) == month.after
    assert Month.at(period.begins_ns - 1, zone) == month.before
    assert period.begins_ns % (60 * 10**9) == 0


@given(MONTHS)
def test_a_month_reads_back_as_it_is_written(month):
    assert Month.parse(str(month)) == month
    assert month.after.before == month == month.before.after


@pytest.mark.parametrize("text", ["", "2026-13", "2026-1", "1999-12", "2026-11-01", "\uff12026-11"])
def test_what_is_no_month_is_refused(text):
    with pytest.raises(BadMonth, match="expected one like '2026-11'"):
        Month.parse(text)


# Days


def test_days_that_overlap_count_once():
    november = Month(2026, 11)
    days = Days.within(
        november,
        [
            (None, date(2026, 11, 11)),
            (date(2026, 11, 6), date(2026, 11, 16)),
            (date(2026, 11, 30), None),
            (date(2026, 12, 1), None),
            (date(2026, 11, 20), date(2026, 11, 20)),
        ],
    )
    assert days.spans == ((0, 15), (29, 30))
    assert days.share == Fraction(16, 30)
    assert list(days.dates(november)) == [
        (date(2026, 11, 1), date(2026, 11, 15)),
        (date(2026, 11, 30), date(2026, 11, 30)),
    ]


@given(MONTHS, st.lists(st.tuples(st.integers(-40, 70), st.integers(-40, 70)), max_size=8))
def test_days_are_those_that_any_stretch_holds(month, ends):
    first = month.first.toordinal()
    stretches = [
        (date.fromordinal(first + begin), date.fromordinal(first + end)) for begin, end in ends
    ]
    held = {
        day
        for day in range(month.days)
        if any(begin <= date.fromordinal(first + day) < end for begin, end in stretches)
    }
    days = Days.within(month, stretches)
    assert {day for begin, end in days.spans for day in range(begin, end)} == held
    assert days.count == len(held)
