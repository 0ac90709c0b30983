"""Windows of a calendar leave no gap, whatever the clocks of a place do."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.days import midnight_ns
from gateway.limits.windows import SECOND, Window, anchored, calendar

KINDS = ["minute", "hour", "day", "week", "month", "year"]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
]
INSTANTS = st.integers(
    int(datetime(2005, 1, 1, tzinfo=UTC).timestamp()),
    int(datetime(2060, 1, 1, tzinfo=UTC).timestamp()),
).map(lambda s: s * SECOND)


def at(text, zone="UTC"):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("kind", "begins", "ends"),
    [
        ("minute", "2026-11-23T06:10", "2026-11-23T06:11"),
        ("hour", "2026-11-23T06:00", "2026-11-23T07:00"),
        ("day", "2026-11-23", "2026-11-24"),
        ("week", "2026-11-23", "2026-11-30"),
        ("month", "2026-11-01", "2026-12-01"),
        ("year", "2026-01-01", "2027-01-01"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_a_window_begins_and_ends_where_the_calendar_of_its_zone_says(kind, begins, ends, zone):
    now = at("2026-11-23T06:10:30", zone) + 5
    assert calendar(kind, ZoneInfo(zone))(now) == Window(at(begins, zone), at(ends, zone))


def test_a_day_that_loses_or_gains_an_hour_is_one_window():
    days = calendar("day", ZoneInfo("Europe/Berlin"))
    for day, hours in (("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25)):
        window = days(at(day, "Europe/Berlin"))
        assert window.ends - window.begins == hours * 3600 * SECOND


def test_an_hour_that_comes_twice_counts_twice():
    hours = calendar("hour", ZoneInfo("Europe/Berlin"))
    first = at("2026-10-25T02:30", "Europe/Berlin")
    windows = [hours(first), hours(first + 3600 * SECOND)]
    assert windows[0].ends == windows[1].begins


def test_a_day_whose_midnight_does_not_exist_begins_when_the_clocks_have_jumped():
    cairo = ZoneInfo("Africa/Cairo")
    begins = midnight_ns(date(2026, 4, 24), cairo)
    assert (
        datetime.fromtimestamp(begins // SECOND, cairo).isoformat() == "2026-04-24T01:00:00+03:00"
    )
    before = calendar("day", cairo)(begins - 1)
    assert (before.ends, before.ends - before.begins) == (begins, 24 * 3600 * SECOND)


def test_a_day_that_a_place_leaves_out_is_no_window():
    days = calendar("day", ZoneInfo("Pacific/Apia"))
    last = days(at("2011-12-29T12:00", "Pacific/Apia"))
    after = days(last.ends)
    assert datetime.fromtimestamp(after.begins // SECOND, ZoneInfo("Pacific/Apia")).day == 31


@given(INSTANTS, st.sampled_from(KINDS), st.sampled_from(ZONES))
@example(at("2025-04-05T15:10"), "hour", "Australia/Lord_Howe")
def test_every_instant_lies_in_its_window_and_the_next_begins_where_it_ends(now, kind, zone):
    windows = calendar(kind, ZoneInfo(zone))
    window = windows(now)
    assert window.begins <= now < window.ends
    # half an hour of summer time cuts an hour in two
    halves = (kind, zone) == ("hour", "Australia/Lord_Howe")
    after = windows(window.ends)
    assert halves or after.begins == window.ends
    assert halves or windows(window.begins) == windows(window.ends - 1) == window


@given(
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.integers(1, 10**6).map(lambda s: s * SECOND),
    INSTANTS,
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
def test_an_anchored_window_is_a_whole_number_of_lengths_from_its_anchor(since, every, now, zone):
    window = anchored(since, ZoneInfo(zone), every)(now)
    assert window.begins <= now < window.ends == window.begins + every
    begins = midnight_ns(since, ZoneInfo(zone))
    assert (window.begins - begins) % every == 0
    utc = anchored(since, ZoneInfo("UTC"), every)(now)
    assert (window.name - utc.name) % (every // SECOND) == 0


@pytest.mark.parametrize("kind", ["day", "week", "month", "year"])
def test_a_window_of_days_has_the_same_name_in_all_zones(kind):
    zones = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
    noon = 1_795_435_200 * SECOND  # the same day in all of them
    windows = [calendar(kind, ZoneInfo(zone))(noon) for zone in zones]
    assert len({window.begins for window in windows}) == len(zones)
    assert len({window.name for window in windows}) == 1


def test_an_hour_that_comes_twice_has_two_names():
    hours = calendar("hour", ZoneInfo("Europe/Berlin"))
    first = 1_792_890_000 * SECOND
    assert hours(first).name != hours(first + 3600 * SECOND).name


def test_a_window_that_is_none_is_refused():
    with pytest.raises(ValueError, match="fortnight"):
        calendar("fortnight", ZoneInfo("UTC"))
