"""A model of Envoy against the incremental stream: any interleaving, any refusal."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xds.delta import DeltaRequest, DeltaStream
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from xds.snapshot import Snapshot

FOLLOWED = {CLUSTER: ENDPOINT, LISTENER: ROUTE}
HOLDERS = {ENDPOINT: CLUSTER, ROUTE: LISTENER}
BAD = b"bad"
variants = st.sampled_from([b"1", b"2", BAD])


@st.composite
def snapshots(draw, variants=variants):
    clusters = draw(st.dictionaries(st.sampled_from(["c0", "c1", "c2"]), variants))
    some = st.sets(st.sampled_from(sorted(clusters))) if clusters else st.just(set())
    routes = draw(st.dictionaries(st.sampled_from(["r0", "r1"]), st.tuples(variants, some)))
    chosen = st.tuples(variants, st.sampled_from(sorted(routes))) if routes else st.nothing()
    listeners = draw(st.dictionaries(st.sampled_from(["l0", "l1"]), chosen)) if routes else {}
    resources = [Resource(CLUSTER, n, b, refs_to(ENDPOINT, [n])) for n, b in clusters.items()]
    bodies = st.sampled_from([b"1", b"2"])
    resources += [Resource(ENDPOINT, name, draw(bodies)) for name in clusters]
    for name, (body, used) in routes.items():
        content = body + repr(sorted(used)).encode()
        resources.append(Resource(ROUTE, name, content, refs_to(CLUSTER, used)))
    for name, (body, route) in listeners.items():
        content = body + route.encode()
        resources.append(Resource(LISTENER, name, content, refs_to(ROUTE, [route])))
    return Snapshot.of(resources)


def refs_to(type_url, names):
    return frozenset((type_url, name) for name in names)


def is_bad(resource):
    return resource.body.startswith(BAD)


class Client:
    """Envoy, as far as incremental xDS can see it."""

    def __init__(self, held=None):
        self.held = held or {t: {} for t in (CLUSTER, ENDPOINT, LISTENER, ROUTE)}
        self.warming = set()
        self.uplink = deque()
        for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE):
            names = self.wanted(type_url)
            if names or type_url in FOLLOWED:
                versions = {n: r.version for n, r in self.held[type_url].items()}
                self.uplink.append(DeltaRequest(type_url, subscribe=names, versions=versions))

    def wanted(self, type_url):
        if type_url in FOLLOWED:
            return frozenset()
        holding = self.held[HOLDERS[type_url]].values()
        return frozenset(n for r in holding for t, n in r.refs if t == type_url)

    def take(self, response, *, partial, names_culprits):
        """Apply a response as far as it is good, then answer it. A removal is always good."""
        sent = {r.name: r for r in response.resources}
        bad = [n for n, r in sent.items() if is_bad(r)]
        if not bad or partial:
            good = {n: r for n, r in sent.items() if n not in bad}
            self.apply(response.type_url, good, response.removed)
        culprits = ", ".join(bad) if names_culprits else "something"
        error = f"Error adding {culprits}: bad" if bad else None
        self.uplink.append(DeltaRequest(response.type_url, nonce=response.nonce, error=error))

    def apply(self, type_url, sent, removed):
        before = self.held[type_url]
        if type_url in FOLLOWED:
            stay = {n: r for n, r in before.items() if n not in removed}
            self.held[type_url] = stay | sent
            self.follow(type_url, before)
            return
        wanted = self.wanted(type_url)
        stay = {n: r for n, r in self.held[type_url].items() if n not in removed}
        self.held[type_url] = stay | {n: r for n, r in sent.items() if n in wanted}
        if type_url == ENDPOINT:
            self.warming -= sent.keys()

    def follow(self, type_url, before):
        """Ask for what new resources refer to. Nothing is asked for a cluster that changes."""
        followed = FOLLOWED[type_url]
        wanted = self.wanted(followed)
        asked = frozenset(n for r in before.values() for t, n in r.refs if t == followed)
        self.held[followed] = {n: r for n, r in self.held[followed].items() if n in wanted}
        if type_url == CLUSTER:
            changed = {n for n, r in self.held[CLUSTER].items() if before.get(n) != r}
            self.warming = (self.warming | changed) & self.held[CLUSTER].keys()
        if wanted != asked:
            self.uplink.append(
                DeltaRequest(followed, subscribe=wanted - asked, unsubscribe=asked - wanted)
            )


class DeltaMachine(RuleBasedStateMachine):
    """Responses and requests travel in order, each direction at its own pace."""

    @initialize()
    def connect(self):
        self.stream, self.client = DeltaStream(), Client()
        self.downlink, self.goal, self.seen = deque(), None, set()
        self.trusted = self.precise = True

    def arrive(self, responses):
        for response in responses:
            assert response.nonce not in self.seen
            assert not {r.name for r in response.resources} & set(response.removed)
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
        self.stream, self.client = DeltaStream(), Client(self.client.held)
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
        for type_url, followed in FOLLOWED.items():
            assert held[type_url] == goal.named(type_url)
            wanted = self.client.wanted(followed)
            assert held[followed] == {n: goal.named(followed)[n] for n in wanted}
        assert not self.client.warming
        assert self.stream.settled
        assert not self.stream.nacks
        self.trusted = True
        assert self.stream.publish(goal) == []

    @precondition(lambda self: self.goal)
    @rule(goal=snapshots(variants=st.sampled_from([b"1", b"2"])))
    def a_client_that_comes_back_unchanged_is_told_nothing(self, goal):
        self.a_good_goal_is_reached_exactly(goal)
        known = any(goal.by_type.values())
        self.reconnect()
        while self.client.uplink:
            request = self.client.uplink.popleft()
            responses = self.stream.receive(request)
            if known and request.versions:
                assert responses == []
            self.arrive(responses)
        self.everything_arrives()

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


TestDeltaMachine = DeltaMachine.TestCase


def endpoint(name, body=b"1"):
    return Resource(ENDPOINT, name, body)


def names(*given):
    return frozenset(given)


def test_a_resubscription_is_answered_though_nothing_changed():
    stream = DeltaStream()
    stream.publish(Snapshot.of([endpoint("a")]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, names("a")))
    assert stream.receive(DeltaRequest(ENDPOINT, nonce=first.nonce)) == []
    (again,) = stream.receive(DeltaRequest(ENDPOINT, names("a")))
    assert again.resources == first.resources


def test_a_name_that_never_was_is_answered_as_removed():
    stream = DeltaStream()
    stream.publish(Snapshot.of([]))
    (answer,) = stream.receive(DeltaRequest(ENDPOINT, names("ghost")))
    assert answer.removed == ("ghost",)
    assert stream.receive(DeltaRequest(ENDPOINT, nonce=answer.nonce)) == []
    (born,) = stream.publish(Snapshot.of([endpoint("ghost")]))
    assert [r.name for r in born.resources] == ["ghost"]


def test_what_is_unsubscribed_is_no_longer_sent():
    stream = DeltaStream()
    stream.publish(Snapshot.of([endpoint("a"), endpoint("b")]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, names("a", "b")))
    request = DeltaRequest(ENDPOINT, unsubscribe=names("a"), nonce=first.nonce)
    assert stream.receive(request) == []
    (changed,) = stream.publish(Snapshot.of([endpoint("a", b"2"), endpoint("b", b"2")]))
    assert [r.name for r in changed.resources] == ["b"]


def test_unsubscribing_a_name_under_a_wildcard_brings_it_again():
    stream = DeltaStream()
    stream.publish(Snapshot.of([endpoint("a"), endpoint("b")]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, names("*", "a")))
    (answer,) = stream.receive(DeltaRequest(ENDPOINT, unsubscribe=names("a"), nonce=first.nonce))
    assert [r.name for r in answer.resources] == ["a"]


def test_unsubscribing_the_star_leaves_the_names():
    stream = DeltaStream()
    stream.publish(Snapshot.of([endpoint("a"), endpoint("b")]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, names("*", "a")))
    stream.receive(DeltaRequest(ENDPOINT, unsubscribe=names("*"), nonce=first.nonce))
    (changed,) = stream.publish(Snapshot.of([endpoint("a", b"2"), endpoint("b", b"2")]))
    assert [r.name for r in changed.resources] == ["a"]


def test_what_the_client_claims_and_is_gone_is_removed():
    stream = DeltaStream()
    kept, gone = endpoint("kept"), endpoint("gone")
    stream.publish(Snapshot.of([kept]))
    versions = {"kept": kept.version, "gone": gone.version}
    (answer,) = stream.receive(DeltaRequest(ENDPOINT, names("*"), versions=versions))
    assert (answer.resources, answer.removed) == ((), ("gone",))


def test_an_older_nonce_answers_nothing_but_its_subscription_counts():
    stream = DeltaStream()
    stream.publish(Snapshot.of([endpoint("a"), endpoint("b")]))
    (first,) = stream.receive(DeltaRequest(ENDPOINT, names("a")))
    assert stream.receive(DeltaRequest(ENDPOINT, names("b"), nonce="0")) == []
    (second,) = stream.receive(DeltaRequest(ENDPOINT, nonce=first.nonce))
    assert [r.name for r in second.resources] == ["b"]
