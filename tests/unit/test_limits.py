"""The rate limiter admits what it promises, never more, and says exactly when to return."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.decision import Verdict
from policy.limits import FULL, Bucket, Limit, full_after, take

LIMITS = st.builds(
    Limit,
    rule=st.just("plan"),
    requests=st.integers(1, 1_000_000),
    per=st.integers(1, 86_400_000).map(lambda ms: ms / 1000),
    burst=st.integers(1, 1000),
)
STARTS = st.integers(0, 10**15).map(lambda us: us / 10**6)
MICROSECONDS = st.one_of(st.integers(0, 50), st.integers(0, 10**7), st.integers(0, 10**10))


def test_a_full_bucket_gives_the_burst_at_once_and_then_refuses():
    limit, bucket, verdicts = Limit("five", 5, 60.0, 5), FULL, []
    for _ in range(6):
        bucket, decision = take(limit, bucket, 1, 100.0)
        verdicts.append((decision.verdict, decision.remaining, decision.retry_after))
    assert verdicts == [
        *((Verdict.ALLOW, left, None) for left in (4, 3, 2, 1, 0)),
        (Verdict.OVER_LIMIT, 0, 12.0),
    ]


def test_units_flow_back_one_by_one():
    limit = Limit("five", 5, 60.0, 5)
    bucket, _ = take(limit, FULL, 5, 0.0)
    assert not take(limit, bucket, 1, 11.999)[1].passes
    bucket, decision = take(limit, bucket, 1, 12.0)
    assert decision.passes
    assert take(limit, bucket, 1, 12.0)[1].retry_after == 12.0


def test_a_unit_that_flows_back_between_two_microseconds_counts_from_the_later():
    limit = Limit("three", 3, 0.000_010, 1)
    bucket, _ = take(limit, FULL, 1, 0.0)
    assert not take(limit, bucket, 1, 0.000_003)[1].passes
    assert take(limit, bucket, 1, 0.000_004)[1].passes


def test_a_refusal_spends_nothing():
    limit = Limit("one", 1, 1.0, 1)
    spent, _ = take(limit, FULL, 1, 0.0)
    assert take(limit, spent, 1, 0.5)[0] is spent


def test_a_cost_over_the_burst_is_refused_for_good():
    decision = take(Limit("one", 100, 1.0, 3), FULL, 4, 0.0)[1]
    assert (decision.verdict, decision.retry_after) == (Verdict.OVER_LIMIT, None)
    assert decision.remaining == 3


def test_a_clock_that_stands_still_or_slips_back_gives_nothing_away():
    limit = Limit("one", 1, 1.0, 1)
    bucket, _ = take(limit, FULL, 1, 10.0)
    assert not take(limit, bucket, 1, 5.0)[1].passes


@pytest.mark.parametrize(
    ("requests", "per", "burst"), [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0), (1, float("inf"), 1)]
)
def test_a_limit_out_of_range_is_refused_with_its_name(requests, per, burst):
    with pytest.raises(ValueError, match="limit 'odd'"):
        Limit("odd", requests, per, burst)


@given(LIMITS, STARTS, st.lists(st.tuples(MICROSECONDS, st.integers(0, 5)), max_size=60))
def test_no_stretch_of_time_ever_admits_more_than_burst_and_flow(limit, start, steps):
    bucket, now_us, spent = FULL, round(start * 10**6), []
    for wait, cost in steps:
        now_us += wait
        bucket, decision = take(limit, bucket, cost, now_us / 10**6)
        if decision.passes:
            spent.append((now_us, cost))
    rate = Fraction(limit.requests, round(limit.per * 10**6))
    for i, (since, _) in enumerate(spent):
        total = 0
        for until, cost in spent[i:]:
            total += cost
            assert total <= limit.burst + rate * (until - since)


@given(LIMITS, STARTS, st.integers(1, 1000), st.lists(MICROSECONDS, max_size=20))
def test_after_retry_after_the_same_call_passes_and_not_a_microsecond_before(
    limit, start, cost, waits
):
    bucket, now_us, cost = FULL, round(start * 10**6), min(cost, limit.burst)
    for wait in waits:
        now_us += wait
        bucket, decision = take(limit, bucket, cost, now_us / 10**6)
        if not decision.passes:
            assert decision.retry_after is not None
            wait_us = round(decision.retry_after * 10**6)
            assert wait_us > 0
            assert take(limit, bucket, cost, (now_us + wait_us) / 10**6)[1].passes
            assert not take(limit, bucket, cost, (now_us + wait_us - 1) / 10**6)[1].passes


@given(LIMITS, STARTS, st.integers(1, 1000), MICROSECONDS)
def test_what_remains_can_be_spent_and_not_one_more(limit, start, cost, wait):
    now_us = round(start * 10**6)
    bucket, _ = take(limit, FULL, min(cost, limit.burst), now_us / 10**6)
    now = (now_us + wait) / 10**6
    remaining = take(limit, bucket, 0, now)[1].remaining
    assert remaining is not None
    assert take(limit, bucket, remaining, now)[1].passes
    assert not take(limit, bucket, remaining + 1, now)[1].passes


@given(LIMITS, STARTS, st.integers(1, 1000))
def test_a_bucket_is_full_after_the_time_it_says(limit, start, cost):
    bucket, _ = take(limit, FULL, min(cost, limit.burst), start)
    wait = full_after(limit, bucket, start)
    later = (round(start * 10**6) + -int(-wait * 10**6 // 1)) / 10**6
    assert take(limit, bucket, limit.burst, later)[1].passes
    assert full_after(limit, Bucket(), start) == 0.0
