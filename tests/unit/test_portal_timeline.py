"""Steps of a plot, across daylight saving and half-hour zones."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.allowance import Allowance
from gateway.portal.parts import Point
from gateway.portal.timeline import DAY, HOUR, across, last_days, last_hours, window
from wherry.model.plan import Plan, Quota

BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")


def _ns(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * 10**9


def test_a_month_is_days_of_its_zone():
    now = _ns(2026, 11, 23, 6)
    month = across(window(Quota(name="m", limit=1), BERLIN, now, None), BERLIN)
    assert month.begins[0] == _ns(2026, 10, 31, 23)
    assert len(month.begins) == 30
    assert month.labels()[::10] == ["1 Nov", "11 Nov", "21 Nov"]
    assert month.happened(now) == 23


def test_an_anchored_window_is_the_one_that_the_gateway_counts_in():
    quota = Quota(name="q", limit=1, window="anchored", every="24h", timezone="Asia/Tokyo")
    plan = Plan.model_validate(
        {"api_version": "wherry.dev/v1", "kind": "Plan", "metadata": {"name": "p"},
         "spec": {"quotas": [quota]}}
    )  # fmt: skip
    allowance = Allowance.of(plan, timezone="Europe/Berlin", begins="2026-11-01")
    now = _ns(2026, 11, 23, 6)
    assert window(quota, BERLIN, now, "2026-11-01") == allowance.shares[0].windows(now)
    assert allowance.shares[0].windows(now).begins == _ns(2026, 11, 22, 23)


def test_the_day_that_has_25_hours_is_one_step():
    days = last_days(3, _ns(2026, 10, 26, 12), BERLIN)
    lengths = [b - a for a, b in zip(days.begins, [*days.begins[1:], days.ends], strict=True)]
    assert [length // HOUR for length in lengths] == [24, 25, 24]


def test_the_last_hours_end_with_this_one():
    hours = last_hours(24, _ns(2026, 11, 23, 6, 30), UTC_ZONE)
    assert hours.labels()[0] == "07:00"
    assert hours.labels()[-1] == "06:00"


@pytest.mark.parametrize(
    ("quota", "steps", "grain"),
    [
        (Quota(name="q", limit=1, window="minute"), 1, "minute"),
        (Quota(name="q", limit=1, window="hour"), 60, "minute"),
        (Quota(name="q", limit=1, window="day"), 24, "hour"),
        (Quota(name="q", limit=1, window="week"), 7, "hour"),
        (Quota(name="q", limit=1, window="year"), 365, "hour"),
        (Quota(name="q", limit=1, window="anchored", every="6h"), 6, "hour"),
    ],
)
def test_every_window_has_steps_that_can_be_told_apart(quota, steps, grain):
    found = across(window(quota, UTC_ZONE, _ns(2026, 11, 23, 6), "2026-11-01"), UTC_ZONE)
    assert (len(found.begins), found.grain) == (steps, grain)


@given(
    st.lists(st.tuples(st.integers(-2 * DAY, 40 * DAY), st.integers(0, 100)), max_size=30),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]),
)
def test_every_point_within_counts_once(points, zone):
    days = last_days(30, _ns(2026, 11, 10), ZoneInfo(zone))
    placed = sorted((days.begins[0] + at, amount) for at, amount in points)
    sums = days.sums([Point(at, amount) for at, amount in placed])
    assert sum(sums) == sum(n for at, n in placed if days.begins[0] <= at < days.ends)
