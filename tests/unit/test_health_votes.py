"""Several checkers, one word on each endpoint; a few checkers for each, evenly shared."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.health.check import BadCheck, Check, ClusterChecks, Endpoint, Http, Tcp
from xds.health.plan import plan
from xds.health.votes import EndpointHealth, Votes

ONE, TWO = ("web", Endpoint("10.0.0.1", 80)), ("web", Endpoint("10.0.0.2", 80))


def cluster(name="web", count=1):
    endpoints = tuple(
        (Endpoint(f"10.0.{i >> 8}.{i & 255}", 80), ("", "", "")) for i in range(count)
    )
    return ClusterChecks(name, (Check(Tcp()),), endpoints)


def votes(*said):
    found = Votes()
    for checker, healthy in enumerate(said):
        found.assign(checker, {ONE: 0.0}, now=0.0)
        if healthy is not None:
            found.say(checker, {ONE: healthy}, now=0.0)
    return found


@pytest.mark.parametrize(
    ("said", "unhealthy"),
    [
        ([], False),
        ([None], False),
        ([True], False),
        ([False], True),
        ([True, False], False),
        ([True, False, False], True),
        ([True, True, False], False),
        ([None, None, False], True),
    ],
)
def test_more_than_half_of_those_with_an_opinion_make_an_endpoint_unhealthy(said, unhealthy):
    assert (ONE in votes(*said).unhealthy) is unhealthy


def test_a_checker_that_leaves_takes_its_opinion_along():
    found = votes(True, False, False)
    found.leave(2)
    assert found.unhealthy == frozenset()
    found.leave(0)
    assert found.unhealthy == {ONE}
    found.leave(1)
    assert (found.unhealthy, found.status()) == (frozenset(), ())


def test_nobody_is_heard_on_what_it_was_not_asked():
    found = Votes()
    found.assign(0, {ONE: 0.0}, now=0.0)
    found.say(0, {ONE: True, TWO: False}, now=0.0)
    found.say(7, {ONE: False}, now=0.0)
    assert found.unhealthy == frozenset()
    assert found.status() == (EndpointHealth(*ONE, healthy=True, checkers=1, against=0),)


def test_an_opinion_ends_with_its_assignment_and_with_a_report_that_leaves_it_out():
    found = votes(False)
    found.assign(0, {TWO: 0.0}, now=0.0)
    assert found.unhealthy == frozenset()
    found.say(0, {TWO: False}, now=0.0)
    assert found.unhealthy == {TWO}
    found.say(0, {}, now=0.0)
    assert found.unhealthy == frozenset()


def test_the_set_is_a_new_one_only_when_it_changes():
    found = votes(False)
    before = found.unhealthy
    found.say(0, {ONE: False}, now=1.0)
    assert found.unhealthy is before
    found.say(0, {ONE: True}, now=1.0)
    assert found.unhealthy is not before


def test_a_bad_word_is_believed_after_the_first_check_or_a_good_word():
    found = Votes()
    found.assign(0, {ONE: 5.0, TWO: 5.0}, now=10.0)
    found.say(0, {ONE: False, TWO: True}, now=11.0)
    assert [(s.endpoint, s.checkers) for s in found.status()] == [(ONE[1], 0), (TWO[1], 1)]
    found.say(0, {ONE: False, TWO: False}, now=12.0)
    assert found.unhealthy == {TWO}
    found.assign(0, {ONE: 5.0}, now=14.0)
    found.say(0, {ONE: False}, now=15.0)
    assert found.unhealthy == {ONE}


MOVES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["assign", "say", "leave"]),
        st.dictionaries(st.sampled_from([ONE, TWO, ("api", ONE[1])]), st.booleans()),
    )
)


@given(MOVES)
def test_after_any_moves_the_word_is_what_a_plain_count_gives(moves):
    found, assigned, said = Votes(), {}, {}
    for checker, move, about in moves:
        if move == "assign":
            found.assign(checker, dict.fromkeys(about, 0.0), now=0.0)
            assigned[checker] = set(about)
        elif move == "say" and checker in assigned:
            found.say(checker, about, now=0.0)
            said[checker] = about
        elif move == "leave" and checker in assigned:
            found.leave(checker)
            del assigned[checker]
            said.pop(checker, None)
        said = {
            each: {target: v for target, v in opinions.items() if target in assigned[each]}
            for each, opinions in said.items()
        }
        count = Counter()
        for opinions in said.values():
            for target, healthy in opinions.items():
                count[target] += 1 if healthy else -1
        assert found.unhealthy == {target for target, total in count.items() if total < 0}
        assert {(s.cluster, s.endpoint) for s in found.status()} == set().union(*assigned.values())


def checkers(count):
    return [f"side-{i}" for i in range(count)]


def shares(planned):
    return Counter({c: sum(len(k.endpoints) for k in share) for c, share in planned.items()})


def test_each_endpoint_gets_as_many_checkers_as_asked_and_no_checker_most_of_the_work():
    clusters = [cluster("web", 300), cluster("api", 300)]
    planned = plan(checkers(20), clusters, copies=3)
    assert sum(shares(planned).values()) == 600 * 3
    assert max(shares(planned).values()) < 600 * 3 / 20 * 3
    seen = Counter(
        (c.cluster, e) for share in planned.values() for c in share for e, _ in c.endpoints
    )
    assert set(seen.values()) == {3}


def test_with_fewer_checkers_than_copies_each_checks_everything():
    planned = plan(checkers(2), [cluster(count=10)], copies=3)
    assert shares(planned) == {"side-0": 10, "side-1": 10}
    assert plan([], [cluster()], copies=3) == {}


def test_when_a_checker_leaves_only_its_share_moves():
    clusters = [cluster(count=200)]
    before, after = plan(checkers(10), clusters, copies=1), plan(checkers(9), clusters, copies=1)
    assert "side-9" in before
    for checker in checkers(9):
        ((old,), (new,)) = before[checker], after[checker]
        assert set(old.endpoints) <= set(new.endpoints)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Check(Tcp(), interval_seconds=0),
        lambda: Check(Tcp(), timeout_seconds=-1),
        lambda: Check(Tcp(), unhealthy_after=0),
        lambda: Check(Http("health")),
    ],
)
def test_a_check_that_cannot_be_is_refused(make):
    with pytest.raises(BadCheck, match="expected"):
        make()
