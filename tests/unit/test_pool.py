"""The planner: a pure function, so every claim about it is checked by simulation."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from faas.running.pool import Memory, Pool, Reap, Seen, Start, plan


def pool(**fields):
    given_fields = {"waiting": 0, "starting": 0, "busy": 0, "idle_since": {}, "limit": 10} | fields
    return Pool(**given_fields)


def planned(pools, *, total=10, now=100.0, keep_idle=60.0):
    return plan(Seen(pools, total), now=now, keep_idle=keep_idle)


def test_a_waiting_call_starts_one_instance():
    assert planned({"f": pool(waiting=1)}) == [Start("f", 1)]


def test_a_call_that_an_instance_is_on_its_way_for_starts_none():
    assert planned({"f": pool(waiting=1, starting=1)}) == []


def test_a_call_that_an_idle_instance_will_take_starts_and_reaps_none():
    assert planned({"f": pool(waiting=1, idle_since={"a": 0.0})}) == []


def test_no_more_instances_start_than_the_function_may_have():
    assert planned({"f": pool(waiting=9, busy=2, limit=3)}) == [Start("f", 1)]


def test_an_instance_that_idled_long_enough_is_reaped_and_a_younger_one_is_kept():
    idle = {"old": 40.0, "young": 41.0}
    assert planned({"f": pool(idle_since=idle)}) == [Reap("f", "old")]


def test_with_no_idle_time_an_instance_is_reaped_at_once():
    assert planned({"f": pool(idle_since={"a": 100.0})}, keep_idle=0) == [Reap("f", "a")]


def test_without_room_the_instance_that_idled_longest_makes_it_and_the_start_waits_for_that():
    pools = {
        "f": pool(waiting=1),
        "g": pool(idle_since={"g1": 90.0, "g2": 80.0}),
        "h": pool(idle_since={"h1": 85.0}),
    }
    assert planned(pools, total=3) == [Reap("g", "g2")]
    pools["g"] = pool(idle_since={"g1": 90.0}, ending=1)
    assert planned(pools, total=3) == []
    pools["g"] = pool(idle_since={"g1": 90.0})
    assert planned(pools, total=3) == [Start("f", 1)]


def test_an_idle_instance_that_a_call_is_about_to_take_makes_no_room():
    pools = {"f": pool(waiting=1), "g": pool(waiting=1, idle_since={"g1": 0.0})}
    assert planned(pools, total=1) == []


def test_room_is_dealt_in_turns_so_that_no_function_starves_another():
    pools = {"many": pool(waiting=50, limit=50), "one": pool(waiting=1)}
    assert planned(pools, total=4) == [Start("many", 3), Start("one", 1)]


def test_a_retiring_pool_keeps_no_idle_instance_but_serves_what_waits():
    assert planned({"f": pool(idle_since={"a": 99.0}, retiring=True)}) == [Reap("f", "a")]
    assert planned({"f": pool(waiting=1, retiring=True)}) == [Start("f", 1)]


def test_a_busy_version_gets_instances_ahead_of_its_calls_and_keeps_them():
    assert planned({"f": pool(target=3, busy=1)}) == [Start("f", 2)]
    assert planned({"f": pool(target=2, busy=1, idle_since={"a": 0.0})}) == []
    assert planned({"f": pool(target=9, limit=2)}) == [Start("f", 2)]
    assert planned({"f": pool(target=9, retiring=True)}) == []


def test_provisioned_instances_are_started_and_neither_idle_out_nor_make_room():
    assert planned({"f": pool(kept=2)}) == [Start("f", 2)]
    kept = pool(kept=1, idle_since={"a": 0.0, "b": 1.0})
    assert planned({"f": kept}) == [Reap("f", "a")]
    pools = {"f": pool(waiting=1), "g": pool(kept=1, idle_since={"a": 99.0})}
    assert planned(pools, total=1) == []


def test_calls_come_before_what_is_provisioned_and_that_before_what_is_hoped_for():
    pools = {"hoped": pool(target=5), "kept": pool(kept=1), "called": pool(waiting=1)}
    assert planned(pools, total=1) == [Start("called", 1)]
    assert planned(pools, total=2) == [Start("called", 1), Start("kept", 1)]
    assert planned(pools, total=3)[2] == Start("hoped", 1)


def test_nothing_makes_room_for_what_is_only_hoped_for():
    pools = {"f": pool(target=3), "g": pool(idle_since={"a": 99.0})}
    assert planned(pools, total=1) == []


def test_no_more_instances_start_at_once_than_the_host_can_carry():
    pools = {"f": pool(waiting=50, limit=50), "g": pool(starting=1, idle_since={"a": 99.0})}
    steps = plan(Seen(pools, 100, starts=4), now=100.0, keep_idle=60.0)
    assert steps == [Start("f", 3)]


def scarce(pools, available, *, stalled=0.0, total=99):
    memory = Memory(available, 100, stalled)
    return plan(Seen(pools, total, memory=memory), now=100.0, keep_idle=60.0)


def test_short_of_memory_the_coldest_instances_are_given_back():
    idle = {"a": 90.0, "b": 80.0, "c": 95.0}
    pools = {"f": pool(idle_since=idle, cost_mib=50)}
    assert scarce(pools, 120) == []
    assert scarce(pools, 40) == [Reap("f", "b", pressed=True), Reap("f", "a", pressed=True)]
    pools["f"] = pool(idle_since=idle, cost_mib=50, ending=2)
    assert scarce(pools, 40) == []


def test_while_programs_wait_for_memory_one_instance_goes_at_a_time_and_none_starts():
    pools = {"f": pool(idle_since={"a": 90.0, "b": 80.0}, cost_mib=50), "g": pool(target=1)}
    assert scarce(pools, 5000, stalled=50.0) == [Reap("f", "b", pressed=True)]
    pools["f"] = pool(idle_since={"a": 90.0}, ending=1, cost_mib=50)
    assert scarce(pools, 5000, stalled=50.0) == []


def test_busy_and_provisioned_instances_are_never_given_back():
    pools = {"f": pool(busy=5, kept=1, idle_since={"a": 90.0}, cost_mib=50)}
    assert scarce(pools, 0) == [Reap("f", "a", pressed=True)]
    pools = {"f": pool(busy=0, kept=1, idle_since={"a": 90.0}, cost_mib=50)}
    assert scarce(pools, 0) == []


def test_without_memory_for_it_a_waiting_call_has_an_idle_instance_go_and_starts_then():
    pools = {"f": pool(waiting=1, cost_mib=50), "g": pool(idle_since={"a": 99.0}, cost_mib=50)}
    assert scarce(pools, 110) == [Reap("g", "a")]
    assert scarce({"f": pool(waiting=3, cost_mib=50)}, 0) == [Start("f", 1)]


pools = st.builds(
    Pool,
    waiting=st.integers(0, 20),
    starting=st.integers(0, 5),
    busy=st.integers(0, 5),
    idle_since=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 100), max_size=5),
    limit=st.integers(1, 12),
    ending=st.integers(0, 3),
    retiring=st.booleans(),
    target=st.integers(0, 8),
    kept=st.integers(0, 3),
    cost_mib=st.sampled_from([0, 50]),
)


memories = st.none() | st.builds(
    Memory, st.integers(0, 400), st.just(100), st.sampled_from([0.0, 50.0])
)


@given(
    st.dictionaries(st.sampled_from(["f", "g", "h"]), pools),
    st.integers(1, 30),
    st.integers(1, 8),
    memories,
)
def test_whatever_is_seen_the_limits_hold_and_only_idle_instances_go(seen, total, most, memory):
    steps = plan(Seen(seen, total, most, memory), now=100.0, keep_idle=60.0)
    starts = {step.pool: step.count for step in steps if isinstance(step, Start)}
    reaps = [(step.pool, step.instance) for step in steps if isinstance(step, Reap)]
    assert all(count > 0 for count in starts.values())
    assert len(set(reaps)) == len(reaps)
    assert all(instance in seen[key].idle_since for key, instance in reaps)
    before = sum(each.size for each in seen.values())
    assert before + sum(starts.values()) <= max(before, total)
    for key, count in starts.items():
        assert seen[key].size + count <= seen[key].limit
        assert count <= max(seen[key].waiting, seen[key].target, seen[key].kept)
    under_way = sum(each.starting for each in seen.values())
    assert under_way + sum(starts.values()) <= max(under_way, most)
    for key, each in seen.items():
        gone = [instance for pool_, instance in reaps if pool_ == key]
        assert len(each.idle_since) - len(gone) >= min(len(each.idle_since), each.waiting)
        if not each.retiring and gone:
            assert each.living - len(gone) >= each.kept
    if memory is not None and sum(starts.values()) > 1:
        assert not memory.pressed
        cost = sum(seen[key].cost_mib * count for key, count in starts.items())
        assert cost <= memory.available_mib - memory.floor_mib or cost <= 50


class ThreeFunctions(RuleBasedStateMachine):
    """Calls come and go; what the plan says is done; nobody may wait while there could be room."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.names = 0
        self.pools = {name: pool(limit=3) for name in "fgh"}

    def change(self, name, **fields):
        self.pools[name] = replace(self.pools[name], **fields)

    def settle(self):
        """Pair, plan and let every start and end happen, until the plan is empty."""
        for _ in range(100):
            for name, each in self.pools.items():
                pairs = min(each.waiting, len(each.idle_since))
                warm = dict(sorted(each.idle_since.items(), key=lambda item: item[1]))
                kept = dict(list(warm.items())[: len(warm) - pairs])
                self.change(
                    name, waiting=each.waiting - pairs, busy=each.busy + pairs, idle_since=kept
                )
            steps = plan(Seen(self.pools, 5), now=self.now, keep_idle=10)
            if not steps:
                return
            for step in steps:
                self.do(step)
        raise AssertionError("the plan never comes to rest")

    def do(self, step):
        each = self.pools[step.pool]
        if isinstance(step, Reap):
            idle = {k: v for k, v in each.idle_since.items() if k != step.instance}
            self.change(step.pool, idle_since=idle)
            return
        self.names += step.count
        fresh = {f"i{self.names - n}": self.now for n in range(step.count)}
        self.change(step.pool, idle_since=each.idle_since | fresh)

    @rule(name=st.sampled_from("fgh"), count=st.integers(1, 5))
    def calls(self, name, count):
        self.change(name, waiting=self.pools[name].waiting + count)
        self.settle()

    @rule(name=st.sampled_from("fgh"))
    def a_call_returns(self, name):
        each = self.pools[name]
        if each.busy:
            self.names += 1
            idle = each.idle_since | {f"i{self.names}": self.now}
            self.change(name, busy=each.busy - 1, idle_since=idle)
            self.settle()

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds):
        self.now += seconds
        self.settle()

    @invariant()
    def nobody_waits_while_there_is_room(self):
        total = sum(each.size for each in self.pools.values())
        assert total <= 5
        for each in self.pools.values():
            if each.waiting:
                spare = sum(len(other.idle_since) for other in self.pools.values())
                assert each.busy == each.limit or (total == 5 and not spare)

    @invariant()
    def nothing_idles_too_long(self):
        for each in self.pools.values():
            assert all(self.now - since < 10 for since in each.idle_since.values())


TestThreeFunctions = ThreeFunctions.TestCase
