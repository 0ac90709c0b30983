"""Several gateways count together: never less than the limit, and at most a hundredth more."""

import asyncio
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.limited import START, One, SettableClock, allowance, caller

from gateway.limits import Grant, Limits
from gateway.limits.books import NODE_SECONDS
from gateway.limits.counters import Bucket, Count, Counted
from gateway.limits.limiter import ADMIT, ASK
from gateway.problem import Refused
from wherry.model.plan import Concurrency, Quota, Rate, Spike
from wherry.store import StoreFailed
from wherry.store.memory import MemoryStore
from wherry.store.steps import Advanced


class Flaky(MemoryStore):
    """A store that can be cut off."""

    def __init__(self, clock):
        super().__init__(clock)
        self.cut_off, self.asked = False, 0

    async def advance_all(self, steps):
        self.asked += len(steps)
        if self.cut_off:
            raise StoreFailed("test", "cut off")
        return await super().advance_all(steps)

    async def hold_all(self, claims):
        if self.cut_off:
            raise StoreFailed("test", "cut off")
        return await super().hold_all(claims)

    async def hold(self, *arguments, **options):
        if self.cut_off:
            raise StoreFailed("test", "cut off")
        return await super().hold(*arguments, **options)


class Fleet:
    """Gateways over one store, whose rounds the test makes."""

    names = count()

    def __init__(self, plan, nodes):
        self.clock = SettableClock()
        self.store, self.plan = Flaky(self.clock), plan
        self.ones = [self.made() for _ in range(nodes)]

    def made(self):
        node = f"node-{next(self.names)}"
        return One(Limits(self.store, self.clock, node=node, shared=True), self.plan)

    async def meet(self):
        """Have every node learn how many there are."""
        for _ in range(2):
            for one in self.ones:
                one.limits.books._renewed = float("-inf")
                await one.limits.books.round()

    async def call(self, node, cost=1):
        """Call at a node, with as many rounds of it as that takes."""
        one = self.ones[node]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(one.call(cost))
            while not task.done():
                await asyncio.sleep(0)
                if not task.done():
                    await one.limits.books.round()
        return task.result()

    async def round(self, node):
        await self.ones[node].limits.books.round()


async def passed(fleet, calls, cost=1):
    """Call at each node in turn; return how many passed."""
    answers = [await fleet.call(n % len(fleet.ones), cost) for n in range(calls)]
    return sum(isinstance(answer, Grant) for answer in answers)


async def test_a_small_quota_is_kept_exactly():
    fleet = Fleet(allowance(quotas=[Quota(name="q", limit=100)]), 4)
    await fleet.meet()
    assert await passed(fleet, 150) == 100


async def test_a_low_rate_is_kept_exactly():
    fleet = Fleet(allowance(rate=Rate(requests=10, per="1m", burst=5)), 4)
    await fleet.meet()
    assert await passed(fleet, 20) == 5
    for _ in range(10):
        fleet.clock.forward(6)
        assert await passed(fleet, 8) == 1


async def test_spike_arrest_holds_over_all_nodes():
    fleet = Fleet(allowance(spike=Spike(requests=100, per="1s")), 4)
    await fleet.meet()
    fleet.clock.forward(60)
    assert await passed(fleet, 8) == 1
    fleet.clock.forward(0.01)
    assert await passed(fleet, 8) == 1


async def test_far_from_a_large_limit_the_store_is_asked_about_few_calls():
    plan = allowance(rate=Rate(requests=100_000), quotas=[Quota(name="q", limit=1_000_000)])
    fleet = Fleet(plan, 4)
    await fleet.meet()
    assert await passed(fleet, 4) == 4
    asked = fleet.store.asked
    for _ in range(5):
        for one in fleet.ones:
            assert all(isinstance(one.now(), Grant) for _ in range(100))
            await one.limits.books.round()
    assert fleet.store.asked - asked == 5 * 4 * 2


async def test_what_one_node_let_through_is_soon_known_to_the_others():
    fleet = Fleet(allowance(quotas=[Quota(name="q", limit=1000)]), 2)
    await fleet.meet()
    for node in (0, 1):
        await fleet.call(node)
    for _ in range(200):
        for _ in range(4):
            assert isinstance(await fleet.call(0), Grant)
        await fleet.round(0)
    for _ in range(6):
        await fleet.call(1)
        await fleet.round(1)
    left = (await fleet.call(1)).fields["RateLimit"]
    assert left.startswith('"q";r=191;')


async def test_a_refused_limit_gives_back_what_the_others_counted():
    plan = allowance(
        rate=Rate(requests=1, per="1h"), quotas=[Quota(name="q", limit=3, window="year")]
    )
    fleet = Fleet(plan, 2)
    await fleet.meet()
    assert await passed(fleet, 10) == 1
    for expected in (1, 1, 0):
        for node in (0, 1):
            await fleet.round(node)
        fleet.clock.forward(3600)
        assert await passed(fleet, 10) == expected


async def test_a_unit_given_back_is_seen_by_those_who_were_refused():
    plan = allowance(
        rate=Rate(requests=1, per="1h"), quotas=[Quota(name="q", limit=2, window="year")]
    )
    fleet = Fleet(plan, 2)
    await fleet.meet()
    other = One(fleet.ones[0].limits, plan, caller(credential="another"))
    assert isinstance(await fleet.call(0), Grant)
    assert isinstance(await fleet.call(1), Refused)  # the quota counts it until it is given back
    fleet.ones.append(other)
    assert (await fleet.call(2)).members == {"violated-policies": ["q"]}
    await fleet.round(1)
    assert isinstance(other.now(), Refused)
    fleet.clock.forward(1)
    assert isinstance(await fleet.call(2), Grant)


async def test_what_is_reported_late_takes_nothing_from_the_rate():
    fleet = Fleet(allowance(rate=Rate(requests=10_000, per="1s", burst=1000)), 2)
    await fleet.meet()
    for node in (0, 1):
        await fleet.call(node)
        await fleet.round(node)
    fleet.clock.forward(1)
    assert all(isinstance(fleet.ones[0].now(), Grant) for _ in range(25))
    fleet.clock.forward(0.1)  # all of it has flowed back, unreported
    assert [isinstance(await fleet.call(1), Grant) for _ in range(999)] == [True] * 999
    await fleet.round(0)
    await fleet.round(1)
    assert isinstance(await fleet.call(1), Grant)


def test_an_answer_of_the_store_keeps_what_was_spent_while_it_was_under_way():
    pace = allowance(rate=Rate(requests=100, per="1s")).paces[0]
    bucket = Bucket(pace, "level")
    bucket.spend(5, START, 2)
    step = bucket.report(START)
    assert (step.n, step.floor) == (5 * pace.interval, START)
    bucket.spend(3, START + 1, 2)
    bucket.answered(Advanced(START + 20 * pace.interval, passed=True), START + 2)
    assert bucket.due == START + 23 * pace.interval
    assert bucket.report(START + 3).n == 3 * pace.interval


def test_what_is_on_its_way_to_the_store_is_not_yet_reported():
    share = allowance(quotas=[Quota(name="q", limit=300)]).shares[0]
    counted = Counted(share, Count("level", share.windows(START)))
    bucket = Bucket(allowance(rate=Rate(requests=600, per="1s", burst=600)).paces[0], "level")
    for limiter, each in ((counted, counted.count), (bucket, bucket)):
        each.answered(Advanced(0, passed=True), START)
        assert limiter.check(1, START, 3) is ADMIT
        limiter.spend(1, START, 3)
        each.report(START)
        assert limiter.check(1, START, 3) is ASK
        each.answered(Advanced(1, passed=True), START)
        assert limiter.check(1, START, 3) is ADMIT


async def test_a_call_that_goes_away_while_it_asks_is_given_back():
    fleet = Fleet(allowance(quotas=[Quota(name="q", limit=2)]), 1)
    await fleet.meet()
    one = fleet.ones[0]
    async with asyncio.TaskGroup() as group:
        for after in (0, 1):
            await fleet.round(0)
            task = group.create_task(one.call())
            await asyncio.sleep(0)
            if after:
                await fleet.round(0)
            task.cancel()
            await asyncio.sleep(0)
            await fleet.round(0)
    fleet.clock.forward(2)
    assert await passed(fleet, 5) == 2


# Concurrency


async def test_places_are_shared_and_a_place_given_back_serves_another_node():
    fleet = Fleet(allowance(concurrency=Concurrency(calls=3)), 2)
    await fleet.meet()
    first = [await fleet.call(n % 2) for n in range(3)]
    assert all(isinstance(each, Grant) for each in first)
    assert await passed(fleet, 2) == 0
    first[0].release()
    await fleet.round(0)
    fleet.clock.forward(0.1)
    assert isinstance(await fleet.call(1), Grant)


async def test_places_of_a_node_that_died_are_free_after_a_while_and_those_of_others_stay():
    fleet = Fleet(allowance(concurrency=Concurrency(calls=3)), 2)
    await fleet.meet()
    assert await passed(fleet, 3) == 3
    held = sum(gate.in_use for gate in fleet.ones[1].limits._gates.values())
    for _ in range(4):
        fleet.clock.forward(NODE_SECONDS / 3 + 0.1)
        await fleet.round(1)
    answers = [await fleet.call(1) for _ in range(3)]
    assert sum(isinstance(answer, Grant) for answer in answers) == 3 - held
    assert fleet.ones[1].limits.books.nodes == 1


async def test_a_node_that_ends_gives_its_places_back_at_once():
    fleet = Fleet(allowance(concurrency=Concurrency(calls=2)), 2)
    await fleet.meet()
    assert [isinstance(await fleet.call(0), Grant) for _ in range(3)] == [True, True, False]
    await fleet.ones[0].limits.end()
    assert isinstance(await fleet.call(1), Grant)


# Without the store


@pytest.mark.parametrize(
    ("how", "statuses"), [("closed", {503}), ("local", {None, 429}), ("open", {None})]
)
async def test_without_the_store_a_plan_holds_as_it_says(how, statuses):
    plan = allowance(
        rate=Rate(requests=60, per="1m", burst=40),
        quotas=[Quota(name="q", limit=100)],
        when_store_fails=how,
    )
    fleet = Fleet(plan, 4)
    await fleet.meet()
    assert await passed(fleet, 8) == 8
    fleet.store.cut_off = True
    answers = [await fleet.call(n % 4) for n in range(200)]
    assert {getattr(answer, "status", None) for answer in answers} == statuses
    granted = sum(isinstance(answer, Grant) for answer in answers)
    assert granted == {"closed": 0, "local": 32, "open": 200}[how]
    fleet.store.cut_off = False
    for node in range(4):
        await fleet.round(node)
    fleet.clock.forward(60)
    await fleet.meet()
    used = {"closed": 8, "local": 40, "open": 208}[how]
    assert await passed(fleet, 200, cost=0) == 200
    quota = next(level for level in fleet.store._levels._held if level.startswith("quota/"))
    assert await fleet.store.advance(quota, 0, floor=None, most=None, seconds=1) == Advanced(
        used, passed=True
    )


# Against what should be


class Shared(RuleBasedStateMachine):
    """Random calls at random nodes, against one count that knows everything at once."""

    @initialize(nodes=st.integers(1, 4), data=st.data())
    def begin(self, nodes, data):
        self.runner = asyncio.Runner()
        spec, self.most, self.rate = data.draw(self.plans())
        self.fleet = Fleet(allowance(**spec), nodes)
        self.runner.run(self.fleet.meet())
        self.admitted, self.lost, self.due = [], 0, 0

    def plans(self):
        raise NotImplementedError

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.close()

    @rule(node=st.integers(0, 3), cost=st.integers(0, 3), times=st.integers(1, 40))
    def call(self, node, cost, times):
        node %= len(self.fleet.ones)
        for _ in range(times):
            answer = self.runner.run(self.fleet.call(node, cost))
            self.judge(cost, isinstance(answer, Grant))

    @rule(node=st.integers(0, 3))
    def round(self, node):
        self.runner.run(self.fleet.round(node % len(self.fleet.ones)))

    @rule(ms=st.sampled_from([0, 1, 20, 50, 1000, 4000]))
    def time_passes(self, ms):
        self.fleet.clock.forward(ms / 1000)

    @rule(node=st.integers(0, 3))
    def a_node_is_killed(self, node):
        node %= len(self.fleet.ones)
        self.lost += self.slack / len(self.fleet.ones)
        self.fleet.ones[node] = self.fleet.made()
        self.runner.run(self.fleet.meet())


class SharedQuota(Shared):
    def plans(self):
        limits = st.sampled_from([0, 3, 99, 250, 1000, 5000])
        return limits.map(
            lambda n: ({"quotas": [Quota(name="q", limit=n, window="year")]}, n, None)
        )

    @property
    def slack(self):
        return self.most // 100

    def judge(self, cost, granted):
        used = sum(self.admitted)
        if granted:
            self.admitted.append(cost)
            assert not cost or used + cost <= self.most + self.slack + self.lost
        else:
            assert used + cost > self.most


class SharedRate(Shared):
    def plans(self):
        rates = st.builds(
            Rate,
            requests=st.sampled_from([1, 10, 500, 2000, 10_000]),
            per=st.sampled_from(["1s", "10s", "1m"]),
            burst=st.sampled_from([None, 3, 100, 1000]),
        )
        return rates.map(lambda rate: ({"rate": rate}, rate.burst or rate.requests, rate))

    @property
    def slack(self):
        return max(self.most, 10**9 // self.interval) // 100

    @property
    def interval(self):
        return self.fleet.plan.paces[0].interval

    def judge(self, cost, granted):
        now, interval = self.fleet.clock.ns, self.interval
        after = max(self.due, now) + cost * interval
        over = (after - now) / interval - self.most
        if granted:
            self.due = after
            assert not cost or over <= self.slack + self.lost
        else:
            assert over > 0


@pytest.mark.parametrize("machine", [SharedQuota, SharedRate])
def test_nodes_together_let_through_no_less_than_the_limit_and_a_hundredth_more(machine):
    run_state_machine_as_test(
        machine, settings=settings(deadline=None, stateful_step_count=40, max_examples=60)
    )
