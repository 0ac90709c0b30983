"""What goes out, and when: culprits among many, lives that are renewed, and cases once wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds.delta import DeltaRequest, DeltaStream
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from xds.snapshot import Layer, Snapshot
from xds.sotw import Request, SotwStream

MANY = [f"c{n:02}" for n in range(24)]


class Sotw:
    """A client of one type in the state of the world."""

    def __init__(self, type_url=CLUSTER, names=frozenset(), **more):
        self.stream, self.type_url, self.names = SotwStream(**more), type_url, names

    def ask(self):
        return self.stream.receive(Request(self.type_url, self.names), 0.0)

    def answer(self, response, error=None, now=0.0):
        request = Request(self.type_url, self.names, response.nonce, error)
        return self.stream.receive(request, now)


class Delta:
    """A client of one type that is told increments."""

    def __init__(self, type_url=CLUSTER, names=frozenset(), **more):
        self.stream, self.type_url, self.names = DeltaStream(**more), type_url, names

    def ask(self):
        return self.stream.receive(DeltaRequest(self.type_url, self.names), 0.0)

    def answer(self, response, error=None, now=0.0):
        request = DeltaRequest(self.type_url, nonce=response.nonce, error=error)
        return self.stream.receive(request, now)


both = pytest.mark.parametrize("kind", [Sotw, Delta])


def cluster(name, body=b"1", **more):
    return Resource(CLUSTER, name, body, **more)


def settle(client, responses, now=0.0):
    """Accept everything; return what was sent."""
    sent = list(responses)
    while responses:
        responses = [each for r in responses for each in client.answer(r, now=now)]
        sent += responses
        assert len(sent) < len(MANY)
    return sent


@both
@given(culprits=st.sets(st.sampled_from(MANY), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_culprits_that_nobody_names_are_found_among_many(kind, culprits):
    client, held, count = kind(), {}, 0
    client.stream.publish(Snapshot.of([cluster(n) for n in MANY]))
    responses = settle(client, client.ask())[-1:]
    held = {r.name: r.body for r in responses[0].resources}
    goal = Snapshot.of([cluster(n, b"bad" if n in culprits else b"2") for n in MANY])
    responses = client.stream.publish(goal)
    while responses:
        (response,), count = responses, count + 1
        assert count <= 2 + 2 * 5 * len(culprits)
        bad = any(r.body == b"bad" for r in response.resources)
        if not bad:
            held.update((r.name, r.body) for r in response.resources)
        responses = client.answer(response, "no" if bad else None)
    assert held == {n: b"1" if n in culprits else b"2" for n in MANY}
    nack = client.stream.nacks[CLUSTER]
    assert (nack.names, nack.sought) == (tuple(sorted(culprits)), False)
    assert not client.stream.settled
    assert client.stream.publish(goal) == []
    settle(client, client.stream.publish(Snapshot.of([cluster(n, b"3") for n in MANY])))
    assert client.stream.settled
    assert not client.stream.nacks


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
@both
def test_what_lives_for_a_time_is_renewed_before_it_ends_and_nothing_else_is_sent(kind, type_url):
    client = kind(type_url, frozenset({"*"}), **({"ttl": True} if kind is Sotw else {}))
    mortal, other = Resource(type_url, "a", b"1", ttl=9.0), Resource(type_url, "b", b"1")
    client.stream.publish(Snapshot.of([mortal, other]), 0.0)
    settle(client, client.ask())
    renewed, now = 0.0, 0.0
    for _ in range(20):
        now = client.stream.wake_at
        assert now < renewed + mortal.ttl
        assert client.stream.tick((now + renewed) / 2) == []
        (beat,) = client.stream.tick(now)
        assert mortal.name.encode() in beat.raw
        if kind is Delta:
            assert (beat.resources, beat.removed) == ((), ())
        elif type_url == ENDPOINT:
            assert beat.resources == (mortal,)
        assert client.stream.tick(now) == []
        assert client.answer(beat, now=now) == []
        assert client.stream.settled
        renewed = now
    settle(client, client.stream.publish(Snapshot.of([other]), now), now)
    if kind is Delta or type_url == CLUSTER:
        assert client.stream.wake_at is None


def test_a_client_that_knows_no_lives_is_sent_no_heartbeats():
    client = Sotw()
    client.stream.publish(Snapshot.of([cluster("a", ttl=9.0)]), 0.0)
    settle(client, client.ask())
    assert client.stream.wake_at is None


@both
def test_a_cluster_that_becomes_listed_is_sent_although_its_content_is_the_same(kind):
    client = kind()
    listed, later = Layer.of([cluster("a")]), Layer.of([cluster("b")])
    client.stream.publish(Snapshot.stacked(listed, on_demand=later))
    settle(client, client.ask())
    both_listed = listed.changed([cluster("b")])
    (response,) = client.stream.publish(Snapshot.stacked(both_listed))
    assert "b" in {r.name for r in response.resources}
    settle(client, [response])
    (back,) = client.stream.publish(Snapshot.stacked(listed, on_demand=later))
    assert back.removed == ("b",)


def test_a_name_asked_for_in_vain_is_answered_again_after_a_refusal_and_then_forgotten():
    client = Delta(names=frozenset({"*", "ghost"}))
    client.stream.publish(Snapshot.of([cluster("a", b"bad"), cluster("b")]))
    (first,) = client.ask()
    assert first.removed == ("ghost",)
    (second,) = client.answer(first, "Error adding a: bad")
    assert ([r.name for r in second.resources], second.removed) == (["b"], ("ghost",))
    client.answer(second)
    settle(client, client.stream.publish(Snapshot.of([cluster("a"), cluster("b")])))
    assert client.stream.settled
    assert not client.stream.nacks


def test_a_client_that_refuses_everything_is_left_alone_in_the_end():
    for client in (Sotw(), Delta(names=frozenset({"*", "ghost"}))):
        client.stream.publish(Snapshot.of([cluster(n) for n in MANY]))
        responses, count = client.ask(), 0
        while responses:
            (response,), count = responses, count + 1
            assert count < 4 * len(MANY)
            responses = client.answer(response, "never")
        assert client.stream.tick(1e9) == []


def test_a_resource_that_left_and_came_back_within_the_drain_time_is_not_waited_for():
    client = Delta(drain=5.0)
    goal = Snapshot.of([cluster("a"), cluster("b")])
    client.stream.publish(goal, 0.0)
    settle(client, client.ask())
    assert client.stream.publish(Snapshot.of([cluster("a")]), 1.0) == []
    assert client.stream.wake_at == 6.0
    assert client.stream.publish(goal, 2.0) == []
    client.stream.tick(6.0)
    assert client.stream.wake_at is None
    assert client.stream.settled


def test_what_was_let_go_and_asked_for_again_before_the_answer_is_sent_again():
    stream = DeltaStream()
    stream.publish(Snapshot.of([Resource(ENDPOINT, n, b"1") for n in "ab"]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, frozenset({"*"})))
    stream.receive(DeltaRequest(ENDPOINT, frozenset({"a"}), frozenset({"*"})))
    stream.receive(DeltaRequest(ENDPOINT, frozenset({"*"})))
    (second,) = stream.receive(DeltaRequest(ENDPOINT, nonce=first.nonce))
    assert {r.name for r in second.resources} >= {"b"}


def test_clusters_stay_until_the_routes_of_a_client_that_came_back_are_replaced():
    def world(to):
        route = Resource(ROUTE, "r", to.encode(), frozenset({(CLUSTER, to)}))
        return Snapshot.of([cluster(to), route, Resource(LISTENER, "l", b"", frozenset())])

    class Past:
        def one(self, _type_url, _name, _version):
            return None

        def whole(self, type_url, version):
            then = world("old")
            return then.named(type_url) if then.version(type_url) == version else None

    stream = SotwStream(drain=5.0, memory=Past())
    stream.publish(world("new"), 0.0)
    version = world("old").version(CLUSTER)
    (first,) = stream.receive(Request(CLUSTER, version=version), 0.0)
    assert {r.name for r in first.resources} == {"old", "new"}
    stream.receive(Request(ROUTE, frozenset({"r"}), version="of the old one"), 0.0)
    (routes,) = stream.receive(Request(CLUSTER, nonce=first.nonce), 0.0)
    assert [r.body for r in routes.resources] == [b"new"]
    assert stream.tick(60.0) == []
    stream.receive(Request(ROUTE, frozenset({"r"}), routes.nonce), 60.0)
    (last,) = stream.tick(120.0)
    assert {r.name for r in last.resources} == {"new"}


def test_what_was_let_go_for_a_while_is_removed_when_it_is_gone():
    stream = DeltaStream()
    stream.publish(Snapshot.of([Resource(ENDPOINT, n, b"1") for n in "ab"]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, frozenset({"*"})))
    stream.receive(DeltaRequest(ENDPOINT, frozenset(), frozenset({"*"})))
    stream.receive(DeltaRequest(ENDPOINT, frozenset({"*"})))
    stream.publish(Snapshot.of([Resource(ENDPOINT, "a", b"1")]))
    (second,) = stream.receive(DeltaRequest(ENDPOINT, nonce=first.nonce))
    assert ([r.name for r in second.resources], second.removed) == (["a"], ("b",))
