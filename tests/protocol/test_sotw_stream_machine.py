"""A model of Envoy against the state-of-the-world stream: any interleaving, any refusal."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream

FOLLOWED = {CLUSTER: ENDPOINT, LISTENER: ROUTE}
BAD = b"bad"
variants = st.sampled_from([b"1", b"2", BAD])


@st.composite
def snapshots(draw, variants=variants):
    clusters = draw(st.dictionaries(st.sampled_from(["c0", "c1", "c2"]), variants))
    names = sorted(clusters)
    routes = draw(
        st.dictionaries(
            st.sampled_from(["r0", "r1"]),
            st.tuples(variants, st.sets(st.sampled_from(names)) if names else st.just(set())),
        )
    )
    listeners = (
        draw(
            st.dictionaries(
                st.sampled_from(["l0", "l1"]), st.tuples(variants, st.sampled_from(sorted(routes)))
            )
        )
        if routes
        else {}
    )
    endpoints = {name: draw(st.sampled_from([b"1", b"2"])) for name in names}
    return Snapshot.of(
        [
            *(Resource(CLUSTER, n, b, frozenset({(ENDPOINT, n)})) for n, b in clusters.items()),
            *(Resource(ENDPOINT, n, b) for n, b in endpoints.items()),
            *(
                Resource(ROUTE, n, body + repr(sorted(used)).encode(), refs_to(CLUSTER, used))
                for n, (body, used) in routes.items()
            ),
            *(
                Resource(LISTENER, n, body + route.encode(), refs_to(ROUTE, [route]))
                for n, (body, route) in listeners.items()
            ),
        ]
    )


def refs_to(type_url, names):
    return frozenset((type_url, name) for name in names)


def is_bad(resource):
    return resource.body.startswith(BAD)


class Client:
    """Envoy, as far as xDS can see it."""

    def __init__(self, held=None):
        self.held = held or {t: {} for t in (CLUSTER, ENDPOINT, LISTENER, ROUTE)}
        self.nonces = {}
        self.warming = set()
        self.uplink = deque()
        for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE):
            if type_url in FOLLOWED or self.wanted(type_url):
                self.ask(type_url)

    def wanted(self, type_url):
        holders = {ENDPOINT: CLUSTER, ROUTE: LISTENER}
        if type_url not in holders:
            return frozenset()
        holding = self.held[holders[type_url]].values()
        return frozenset(n for r in holding for t, n in r.refs if t == type_url)

    def ask(self, type_url, error=None):
        nonce = self.nonces.get(type_url, "")
        self.uplink.append(Request(type_url, self.wanted(type_url), nonce, error))

    def take(self, response, *, partial, names_culprits):
        """Apply a response as far as it is good, then answer it."""
        type_url = response.type_url
        sent = {r.name: r for r in response.resources}
        bad = [n for n, r in sent.items() if is_bad(r)]
        self.nonces[type_url] = response.nonce
        if not bad or partial:
            self.apply(type_url, {n: r for n, r in sent.items() if n not in bad}, kept=bad)
        culprits = ", ".join(bad) if names_culprits else "something"
        self.ask(type_url, f"Error adding {culprits}: bad" if bad else None)

    def apply(self, type_url, sent, kept):
        before = self.held[type_url]
        if type_url in FOLLOWED:
            stay = {n: r for n, r in before.items() if n in kept}
            self.held[type_url] = {**sent, **stay}
            self.follow(type_url, before)
        else:
            self.held[type_url] |= {n: r for n, r in sent.items() if n in self.wanted(type_url)}
            if type_url == ENDPOINT:
                self.warming -= sent.keys()

    def follow(self, type_url, before):
        followed = FOLLOWED[type_url]
        wanted, old = self.wanted(followed), self.held[followed]
        self.held[followed] = {n: r for n, r in old.items() if n in wanted}
        changed = {n for n, r in self.held[type_url].items() if before.get(n) != r}
        if type_url == CLUSTER:
            self.warming = (self.warming | changed) & self.held[CLUSTER].keys()
        asked = frozenset(n for r in before.values() for t, n in r.refs if t == followed)
        if wanted != asked or (type_url == CLUSTER and changed):
            self.ask(followed)


class SotwMachine(RuleBasedStateMachine):
    """Responses and requests travel in order, each direction at its own pace."""

    @initialize()
    def connect(self):
        self.stream, self.client = SotwStream(), Client()
        self.downlink, self.goal, self.seen = deque(), None, set()
        self.trusted = self.precise = True

    def arrive(self, responses):
        for response in responses:
            assert response.nonce not in self.seen
            self.seen.add(response.nonce)
            self.downlink.append(response)

    @rule(goal=snapshots())
    def publish(self, goal):
        self.goal = goal
        self.arrive(self.stream.publish(goal))

    @precondition(lambda self: self.client.uplink)
    @rule()
    def upload(self):
        self.arrive(self.stream.receive(self.client.uplink.popleft()))

    @precondition(lambda self: self.downlink)
    @rule(partial=st.booleans(), names_culprits=st.booleans())
    def deliver(self, *, partial=True, names_culprits=True):
        response = self.downlink.popleft()
        self.precise &= names_culprits or not any(map(is_bad, response.resources))
        self.client.take(response, partial=partial, names_culprits=names_culprits)

    @rule()
    def reconnect(self):
        # A new stream does not know what a client holds that is no longer desired, so it cannot
        # keep that until it is out of use; from the next settled state on it can.
        self.stream, self.client = SotwStream(), Client(self.client.held)
        self.downlink.clear()
        self.seen.clear()
        self.trusted, self.precise = False, True
        if self.goal:
            self.arrive(self.stream.publish(self.goal))

    @precondition(lambda self: self.goal)
    @rule(goal=snapshots(variants=st.sampled_from([b"1", b"2"])))
    def a_good_goal_is_reached_exactly(self, goal):
        self.publish(goal)
        self.everything_arrives()
        held = self.client.held
        for type_url in FOLLOWED:
            assert held[type_url] == goal.named(type_url)
        for type_url in FOLLOWED.values():
            wanted = self.client.wanted(type_url)
            assert held[type_url] == {n: goal.named(type_url)[n] for n in wanted}
        assert not self.client.warming
        assert self.stream.settled
        assert not self.stream.nacks
        self.trusted = True

    @precondition(lambda self: self.goal)
    @rule()
    def everything_arrives(self):
        for _ in range(300):
            if self.client.uplink:
                self.upload()
            elif self.downlink:
                self.deliver()
            else:
                break
            self.no_route_lacks_its_cluster()
        else:
            raise AssertionError("client and server never fall silent")
        if self.precise:
            self.what_is_good_was_delivered()

    def what_is_good_was_delivered(self):
        for type_url, named in self.goal.by_type.items():
            wanted = self.client.wanted(type_url)
            for name, resource in named.items():
                needs = [self.goal.named(t)[n] for t, n in self.goal.needs_of(resource)]
                if any(map(is_bad, (resource, *needs))):
                    continue
                if type_url in FOLLOWED or name in wanted:
                    assert self.client.held[type_url].get(name) == resource

    @invariant()
    def no_route_lacks_its_cluster(self):
        if not self.trusted:
            return
        for route in self.client.held[ROUTE].values():
            for _, cluster in route.refs:
                assert cluster in self.client.held[CLUSTER]
                assert cluster in self.client.held[ENDPOINT]

    @invariant()
    def at_most_one_response_of_a_type_is_under_way(self):
        types = [response.type_url for response in self.downlink]
        assert len(types) == len(set(types))


TestSotwMachine = SotwMachine.TestCase


def cluster(name, body=b"1"):
    return Resource(CLUSTER, name, body)


def test_a_request_that_answers_an_older_nonce_is_ignored():
    stream = SotwStream()
    stream.publish(Snapshot.of([cluster("a")]))
    (first,) = stream.receive(Request(CLUSTER))
    stream.receive(Request(CLUSTER, nonce=first.nonce))
    (second,) = stream.publish(Snapshot.of([cluster("b")]))
    assert stream.receive(Request(CLUSTER, nonce=first.nonce)) == []
    assert stream.publish(Snapshot.of([cluster("c")])) == []
    (third,) = stream.receive(Request(CLUSTER, nonce=second.nonce))
    assert [r.name for r in third.resources] == ["c"]


def test_a_repeated_endpoint_request_with_the_same_nonce_is_answered():
    stream = SotwStream()
    stream.publish(Snapshot.of([Resource(ENDPOINT, "a", b"1")]))
    names = frozenset({"a"})
    (first,) = stream.receive(Request(ENDPOINT, names))
    assert stream.receive(Request(ENDPOINT, names, first.nonce)) == []
    (again,) = stream.receive(Request(ENDPOINT, names, first.nonce))
    assert again.resources == first.resources


def test_an_empty_list_after_names_means_nothing_and_not_everything():
    stream = SotwStream()
    stream.publish(Snapshot.of([cluster("a"), cluster("b")]))
    (first,) = stream.receive(Request(CLUSTER, frozenset({"a"})))
    stream.receive(Request(CLUSTER, frozenset(), first.nonce))
    assert stream.publish(Snapshot.of([cluster("b", b"2")])) == []


def test_a_star_asks_for_everything_and_names_may_stand_beside_it():
    stream = SotwStream()
    stream.publish(Snapshot.of([cluster("a"), cluster("b")]))
    (first,) = stream.receive(Request(CLUSTER, frozenset({"*", "a"})))
    assert {r.name for r in first.resources} == {"a", "b"}


def test_a_wildcard_without_resources_is_answered_with_nothing():
    stream = SotwStream()
    assert stream.receive(Request(LISTENER)) == []
    (answer,) = stream.publish(Snapshot.of([]))
    assert answer.resources == ()


def test_refused_content_is_not_sent_again_until_it_changes():
    stream = SotwStream()
    stream.publish(Snapshot.of([cluster("a", b"bad")]))
    (first,) = stream.receive(Request(CLUSTER))
    assert stream.receive(Request(CLUSTER, nonce=first.nonce, error="no")) == []
    nack = stream.nacks[CLUSTER]
    assert (nack.error, nack.names, nack.version) == ("no", ("a",), first.version)
    assert stream.publish(Snapshot.of([cluster("a", b"bad")])) == []
    (fixed,) = stream.publish(Snapshot.of([cluster("a", b"good")]))
    stream.receive(Request(CLUSTER, nonce=fixed.nonce))
    assert not stream.nacks


def test_one_bad_resource_does_not_hold_up_the_others():
    stream = SotwStream()
    stream.publish(Snapshot.of([cluster("a", b"bad"), cluster("b")]))
    (first,) = stream.receive(Request(CLUSTER))
    error = "Error adding/updating cluster(s) a: bad"
    (second,) = stream.receive(Request(CLUSTER, nonce=first.nonce, error=error))
    assert [r.name for r in second.resources] == ["b"]
    stream.receive(Request(CLUSTER, nonce=second.nonce))
    assert stream.nacks[CLUSTER].names == ("a",)
    assert not stream.settled
