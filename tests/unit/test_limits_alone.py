"""One gateway alone: every limit holds, is said to the caller, and is remembered."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from support.limited import One, SettableClock, allowance, caller

from gateway.limits import Grant, Limits
from gateway.problem import QUOTA_EXCEEDED, Refused
from wherry.model.plan import Concurrency, Quota, Rate, Spike
from wherry.store import StoreFailed
from wherry.store.memory import MemoryStore


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@asynccontextmanager
async def running(store, clock, **options):
    limits = Limits(store, clock, node="one", shared=False, **options)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(limits.run(), name="limits")
        try:
            yield limits
        finally:
            task.cancel()
            await limits.end()


def passed(answers):
    return [isinstance(answer, Grant) for answer in answers]


# Rate and spike arrest


async def test_a_rate_lets_its_burst_through_and_then_one_as_each_flows_back(store, clock):
    plan = allowance(rate=Rate(requests=60, per="1m", burst=3))
    one = One(Limits(store, clock, node="one", shared=False), plan)
    assert passed(one.now() for _ in range(5)) == [True] * 3 + [False] * 2
    clock.forward(1)
    assert passed(one.now() for _ in range(2)) == [True, False]
    clock.forward(0.999)
    assert passed([one.now()]) == [False]
    clock.forward(100)
    assert passed(one.now() for _ in range(4)) == [True] * 3 + [False]


async def test_a_grant_says_what_is_left_and_a_refusal_when_to_return(store, clock):
    plan = allowance(rate=Rate(requests=60, per="1m", burst=3))
    one = One(Limits(store, clock, node="one", shared=False), plan)
    assert one.now().fields == {
        "RateLimit-Policy": '"gold";q=60;w=60',
        "RateLimit": '"gold";r=2;t=1',
    }
    refused = one.now(cost=3)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.kind) == (429, QUOTA_EXCEEDED)
    assert refused.members == {"violated-policies": ["gold"]}
    assert refused.headers == {
        "RateLimit-Policy": '"gold";q=60;w=60',
        "RateLimit": '"gold";r=2;t=1',
        "Retry-After": "1",
    }
    assert "used up" in refused.detail
    assert isinstance(one.now(cost=2), Grant)
    assert one.now().headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("requests", "per", "policy"),
    [
        (5, "1m", '"gold";q=5;w=60'),
        (10, "500ms", '"gold";q=20;w=1'),
        (10, "1.5s", '"gold";q=20;w=3'),
        (1, "1h30m", '"gold";q=1;w=5400'),
    ],
)
def test_a_rate_is_said_in_whole_seconds(requests, per, policy):
    assert allowance(rate=Rate(requests=requests, per=per)).paces[0].policy == policy


async def test_a_call_that_costs_more_than_the_burst_is_told_that_it_never_passes(store, clock):
    plan = allowance(rate=Rate(requests=60, per="1m", burst=3))
    refused = One(Limits(store, clock, node="one", shared=False), plan).now(cost=4)
    assert "Retry-After" not in refused.headers
    assert "costs 4" in refused.detail


async def test_a_free_call_passes_whatever_was_spent(store, clock):
    plan = allowance(rate=Rate(requests=1, per="1m"), quotas=[Quota(name="q", limit=1)])
    async with running(store, clock) as limits:
        one = One(limits, plan)
        assert passed([await one.call(), await one.call(), await one.call(0)]) == [
            True,
            False,
            True,
        ]


async def test_spike_arrest_keeps_calls_apart_however_long_nobody_called(store, clock):
    plan = allowance(spike=Spike(requests=10, per="1s"))
    one = One(Limits(store, clock, node="one", shared=False), plan)
    clock.forward(1000)
    assert passed(one.now(cost=5) for _ in range(2)) == [True, False]
    clock.forward(0.1)
    granted = one.now()
    assert granted.fields == {"RateLimit-Policy": '"spike";q=10;w=1'}
    assert one.now().members == {"violated-policies": ["spike"]}


async def test_a_refusal_by_one_limit_spends_nothing_of_another(store, clock):
    plan = allowance(rate=Rate(requests=2, per="1h"), spike=Spike(requests=1, per="1s"))
    one = One(Limits(store, clock, node="one", shared=False), plan)
    assert passed(one.now() for _ in range(3)) == [True, False, False]
    clock.forward(1)
    assert passed([one.now()]) == [True]


@pytest.mark.parametrize(
    ("by", "apart"),
    [("credential", [1, 1, 1, 1]), ("app", [1, 0, 1, 1]), ("consumer", [1, 0, 0, 1])],
)
async def test_calls_share_a_rate_by_credential_app_or_consumer(store, clock, by, apart):
    plan = allowance(rate=Rate(requests=1, by=by))
    limits = Limits(store, clock, node="one", shared=False)
    whose = [
        caller("acme", "web", "k1"),
        caller("acme", "web", "k2"),
        caller("acme", "app", "k3"),
        caller("zeta", "web", "k4"),
    ]
    assert passed(One(limits, plan, who).now() for who in whose) == [bool(n) for n in apart]


async def test_calls_share_a_rate_by_address_and_each_product_has_its_own(store, clock):
    plan = allowance(rate=Rate(requests=1, by="address"))
    limits = Limits(store, clock, node="one", shared=False)
    assert passed([One(limits, plan, caller(credential="k1")).now()]) == [True]
    assert passed([One(limits, plan, caller(credential="k2")).now()]) == [False]
    assert passed([One(limits, plan, peer="10.0.0.1").now()]) == [True]
    assert passed([One(limits, plan, product="other").now()]) == [True]


async def test_a_clock_that_is_set_back_takes_no_more_than_a_full_burst(store, clock):
    plan = allowance(rate=Rate(requests=60, per="1m", burst=2))
    one = One(Limits(store, clock, node="one", shared=False), plan)
    assert passed(one.now() for _ in range(2)) == [True, True]
    clock.forward(-3600)
    assert passed([one.now()]) == [False]
    clock.forward(1)
    assert passed([one.now()]) == [True]


async def test_a_plan_without_limits_lets_everything_through_and_says_nothing(store, clock):
    one = One(Limits(store, clock, node="one", shared=False), allowance())
    granted = one.now(cost=10**9)
    assert granted.fields == {}
    granted.release()


# Quotas


async def test_a_quota_is_read_once_and_then_counted_without_waiting(store, clock):
    plan = allowance(quotas=[Quota(name="daily", limit=3, window="day")])
    async with running(store, clock) as limits:
        one = One(limits, plan)
        assert one.now() is None
        assert isinstance(await one.call(), Grant)
        granted = one.now()
        assert granted.fields == {
            "RateLimit-Policy": '"daily";q=3;w=86400',
            "RateLimit": '"daily";r=1;t=86400',
        }
        clock.forward(3600)
        assert passed([one.now(), one.now()]) == [True, False]
        refused = one.now()
        assert refused.headers["Retry-After"] == str(23 * 3600)
        assert refused.members == {"violated-policies": ["daily"]}
        clock.forward(23 * 3600)
        assert passed([await one.call() for _ in range(4)]) == [True] * 3 + [False]


async def test_a_quota_outlives_a_restart(store, clock):
    plan = allowance(quotas=[Quota(name="monthly", limit=10)])
    for expected in ([True] * 6, [True] * 4 + [False] * 2):
        async with running(store, clock) as limits:
            one = One(limits, plan)
            assert passed([await one.call() for _ in range(6)]) == expected
    clock.forward(40 * 86_400)
    async with running(store, clock) as limits:
        assert passed([await One(limits, plan).call(10)]) == [True]


async def test_a_quota_that_is_used_up_stays_so_under_a_larger_plan_of_the_same_window(
    store, clock
):
    small = allowance("free", quotas=[Quota(name="monthly", limit=2)])
    large = allowance("paid", quotas=[Quota(name="monthly", limit=5)])
    async with running(store, clock) as limits:
        assert passed([await One(limits, small).call() for _ in range(3)]) == [True, True, False]
        assert passed([await One(limits, large).call() for _ in range(4)]) == [True] * 3 + [False]
        assert passed([await One(limits, small).call()]) == [False]


@pytest.mark.parametrize(
    ("by", "per", "apart"),
    [
        ("consumer", "all", [1, 0, 0, 0]),
        ("consumer", "product", [1, 0, 0, 1]),
        ("consumer", "operation", [1, 0, 1, 1]),
        ("app", "all", [1, 1, 0, 0]),
    ],
)
async def test_a_quota_is_shared_as_the_plan_says(store, clock, by, per, apart):
    plan = allowance(quotas=[Quota(name="q", limit=1, by=by, per=per)])
    async with running(store, clock) as limits:
        calls = [
            ("web", "shop", "get"),
            ("phone", "shop", "get"),
            ("web", "shop", "put"),
            ("web", "bank", "get"),
        ]
        answers = [
            await One(limits, plan, caller(app=app), product=product).call(operation=operation)
            for app, product, operation in calls
        ]
        assert passed(answers) == [bool(n) for n in apart]


async def test_a_quota_on_another_meter_closes_when_calls_have_used_it_up(store, clock):
    plan = allowance(quotas=[Quota(name="words", limit=100, meter="tokens")])
    async with running(store, clock) as limits:
        one = One(limits, plan)
        granted = await one.call(cost=1000)
        policy = f'"words";q=100;qu="tokens";w={30 * 86_400}'
        assert granted.fields["RateLimit-Policy"] == policy
        one.used(tokens=60, other=900, requests=900)
        one.used(tokens=-60)
        assert isinstance(one.now(), Grant)
        one.used(tokens=60)
        assert one.now().members == {"violated-policies": ["words"]}


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("window", ["day", "week", "month", "year", "anchored"])
async def test_a_consumer_that_moves_to_another_zone_gets_no_quota_anew(
    store, clock, window, restarted
):
    clock.forward(12 * 3600)
    every = "36h" if window == "anchored" else None
    quotas = [Quota(name="q", limit=3, window=window, every=every)]
    async with AsyncExitStack() as stack:
        limits = await stack.enter_async_context(running(store, clock))
        one = One(limits, allowance(quotas=quotas, timezone="Europe/Berlin"))
        assert passed([await one.call() for _ in range(2)]) == [True, True]
        if restarted:
            await limits.end()
            limits = await stack.enter_async_context(running(store, clock))
        moved = One(limits, allowance(quotas=quotas, timezone="America/New_York"))
        assert passed([await moved.call() for _ in range(2)]) == [True, False]
        back = One(limits, allowance(quotas=quotas, timezone="Europe/Berlin"))
        assert passed([await back.call()]) == [False]


async def test_amounts_that_no_store_can_count_close_a_quota_and_break_nothing(store, clock):
    plan = allowance(quotas=[Quota(name="bytes", limit=10**12, meter="bytes")])
    async with running(store, clock) as limits:
        one = One(limits, plan)
        await one.call()
        for _ in range(10_000):
            one.used(bytes=10**15)
        await limits.books.round(last=True)
        assert one.now().members == {"violated-policies": ["bytes"]}
    async with running(store, clock) as limits:
        refused = await One(limits, plan).call()
        assert refused.members == {"violated-policies": ["bytes"]}


async def test_quotas_of_an_anchored_window_begin_with_the_subscription(store, clock):
    quota = Quota(name="q", limit=1, window="anchored", every="36h")
    plan = allowance(quotas=[quota], timezone="Asia/Tokyo", begins="2026-11-22")
    async with running(store, clock) as limits:
        granted = await One(limits, plan).call()
        assert granted.fields["RateLimit"] == f'"q";r=0;t={(36 - 24 - 9) * 3600}'


async def test_a_quota_of_nothing_refuses_everything(store, clock):
    async with running(store, clock) as limits:
        one = One(limits, allowance(quotas=[Quota(name="none", limit=0)]))
        assert passed([await one.call(), one.now()]) == [False, False]


async def test_several_limits_are_said_in_one_field(store, clock):
    plan = allowance(
        rate=Rate(requests=60, per="1m"),
        quotas=[Quota(name="daily", limit=9, window="day"), Quota(name="gold", limit=99)],
        concurrency=Concurrency(calls=2),
    )
    async with running(store, clock) as limits:
        granted = await One(limits, plan).call()
        assert granted.fields == {
            "RateLimit-Policy": (
                f'"gold";q=60;w=60, "daily";q=9;w=86400, "gold-quota";q=99;w={30 * 86_400}, '
                '"concurrency";q=2;qu="concurrent-requests"'
            ),
            "RateLimit": (
                '"gold";r=59;t=1, "daily";r=8;t=86400, '
                f'"gold-quota";r=98;t={8 * 86_400}, "concurrency";r=1'
            ),
        }


# Concurrency


async def test_no_more_calls_are_under_way_than_the_plan_has_places(store, clock):
    plan = allowance(concurrency=Concurrency(calls=2))
    one = One(Limits(store, clock, node="one", shared=False), plan)
    first, second, third = one.now(), one.now(), one.now()
    assert passed([first, second, third]) == [True, True, False]
    assert third.members == {"violated-policies": ["concurrency"]}
    assert third.headers["Retry-After"] == "1"
    first.release()
    first.release()
    assert passed([one.now(), one.now()]) == [True, False]


# What is kept


async def test_only_so_many_callers_are_kept_and_the_busy_ones_among_them(store, clock):
    plan = allowance(rate=Rate(requests=2, per="1h"), quotas=[Quota(name="q", limit=2)])
    async with running(store, clock, most=20) as limits:
        busy = One(limits, plan, caller("busy"))
        assert passed([await busy.call(), await busy.call()]) == [True, True]
        for n in range(200):
            await One(limits, plan, caller(f"c{n}", credential=f"k{n}")).call()
            assert not isinstance(busy.now(), Grant)
            assert len(limits) <= 21
        clock.forward(7200)
        assert passed([await One(limits, plan, caller("c1")).call(2)]) == [False]


class Failing(MemoryStore):
    """A store that fails when told to, before or after it did the work."""

    broken = None

    async def advance_all(self, steps):
        if self.broken == "before":
            raise StoreFailed("test", "broken")
        found = await super().advance_all(steps)
        if self.broken == "after":
            raise StoreFailed("test", "broken")
        return found

    async def hold(self, *arguments, **options):
        if self.broken:
            raise StoreFailed("test", "broken")
        return await super().hold(*arguments, **options)


@pytest.mark.parametrize("broken", ["before", "after"])
async def test_what_was_counted_while_the_store_failed_is_written_once_it_is_back(clock, broken):
    store = Failing(clock)
    plan = allowance(quotas=[Quota(name="q", limit=100)])
    limits = Limits(store, clock, node="one", shared=False)
    one = One(limits, plan)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(one.call(5))
        while not first.done():
            await limits.books.round()
            await asyncio.sleep(0)
    store.broken = broken
    for _ in range(3):
        assert isinstance(one.now(10), Grant)
        clock.forward(2)
        await limits.books.round()
        assert limits.failing
    store.broken = None
    await limits.books.round()
    await limits.end()
    assert not limits.failing
    async with running(store, clock) as again:
        two = One(again, plan)
        assert passed([await two.call(65), await two.call(1)]) == [True, False]


@pytest.mark.parametrize(("how", "status"), [("open", None), ("local", None), ("closed", 503)])
async def test_a_quota_that_cannot_be_read_is_decided_as_the_plan_says(clock, how, status):
    store = Failing(clock)
    store.broken = "before"
    plan = allowance(quotas=[Quota(name="q", limit=2)], when_store_fails=how)
    async with running(store, clock) as limits:
        answers = [await One(limits, plan).call() for _ in range(3)]
    if status:
        assert [answer.status for answer in answers] == [status] * 3
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
    else:
        assert passed(answers) == [True, True, how == "open"]
