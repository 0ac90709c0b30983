"""A model of Envoy against the incremental stream: any interleaving, any refusal."""

from hypothesis.stateful import precondition, rule
from support.free_machine import FreeMachine, Subscriber
from support.stream_machine import FOLLOWED, Envoy, EnvoyMachine, cases, randoms

from xds.delta import DeltaRequest, DeltaStream
from xds.resource import CLUSTER, ENDPOINT, Resource
from xds.snapshot import Snapshot
from xds.subscription import WILDCARD


class DeltaEnvoy(Envoy):
    """Says once what changes in what it wants, and on a new stream what it holds."""

    def __init__(self, before=None):
        super().__init__(before)
        for type_url, held in self.held.items():
            names = self.wanted(type_url)
            if names or type_url in FOLLOWED:
                versions = {n: r.version for n, r in held.items()}
                wildcard = {WILDCARD} if names and type_url in FOLLOWED else set()
                self.uplink.append(DeltaRequest(type_url, names | wildcard, versions=versions))

    def ask_more(self, name):
        self.uplink.append(DeltaRequest(CLUSTER, frozenset({name})))

    def refer(self, type_url, asked, wanted, *, warms):
        """Nothing is asked for a cluster that only changes."""
        del warms
        if wanted != asked:
            self.uplink.append(DeltaRequest(type_url, wanted - asked, asked - wanted))

    def take(self, response, *, partial, names_culprits):
        error = self.takes(response, partial=partial, names_culprits=names_culprits)
        self.uplink.append(DeltaRequest(response.type_url, nonce=response.nonce, error=error))

    def after(self, type_url, good, _bad, removed):
        """Return what it holds then. A removal is always good."""
        return {**{n: r for n, r in self.held[type_url].items() if n not in removed}, **good}


class DeltaMachine(EnvoyMachine):
    """Keeps its routes across any new stream, for the client says what it holds.

    Not where nothing drains: clusters go before the client has said that it has routes.
    """

    new_stream = staticmethod(DeltaStream)
    new_client = DeltaEnvoy

    def is_known(self):
        return True

    @precondition(lambda self: self.goal)
    @rule(random=randoms)
    def a_client_that_comes_back_unchanged_is_told_nothing(self, random):
        self.a_good_goal_is_reached_exactly(random)
        self.client = self.new_client(self.client)
        self.open()
        while self.client.uplink:
            request = self.client.uplink.popleft()
            responses = self.stream.receive(request, self.now)
            news = request.subscribe - request.versions.keys() - {WILDCARD}
            assert news or not request.versions or responses == []
            self.arrive(responses)
        self.everything_arrives()

    @precondition(lambda self: self.goal)
    @rule(random=randoms)
    def what_changes_is_sent_once_and_nothing_else(self, random):
        self.a_good_goal_is_reached_exactly(random)
        before = [r for held in self.client.held.values() for r in held.values()]
        self.log.clear()
        self.a_good_goal_is_reached_exactly(random)
        sent = [r for response in self.log for r in response.resources]
        sent = [r for r in sent if r.type_url != ENDPOINT]  # those warm clusters
        assert len(set(sent)) == len(sent)
        assert not set(before) & set(sent)


class DeltaSubscriber(Subscriber):
    """Names what it adds and what it lets go; no name at first means everything."""

    def subscribe(self, type_url, names, nonce, error):
        topic = self.topics[type_url]
        first = topic.names is None
        wildcard = WILDCARD in names or (not names if first else topic.wildcard)
        topic.want((names - {WILDCARD}) | (topic.names or frozenset()), wildcard=wildcard)
        versions = {n: r.version for n, r in topic.held.items()} if first else {}
        request = DeltaRequest(type_url, names, frozenset(), versions, nonce, error)
        self.uplink.append(request)

    def unsubscribe(self, type_url, names, nonce):
        topic = self.topics[type_url]
        topic.held = {n: r for n, r in topic.held.items() if n not in names}
        topic.want(topic.names - names, wildcard=topic.wildcard and WILDCARD not in names)
        self.uplink.append(DeltaRequest(type_url, unsubscribe=names, nonce=nonce))

    def say(self, type_url, nonce, error):
        self.uplink.append(DeltaRequest(type_url, nonce=nonce, error=error))

    @staticmethod
    def meaning(request, before):
        """Return what is wanted after ``request``, and what it calls for."""
        names = request.subscribe
        if before is None and not names:
            names = frozenset({WILDCARD})
        after = ((before or frozenset()) | names) - request.unsubscribe
        asked = names - request.versions.keys()
        if request.versions:
            asked -= {WILDCARD}
        if WILDCARD in after:
            asked |= request.unsubscribe - {WILDCARD}
        return after, asked

    def after(self, type_url, good, _bad, removed):
        before = self.topics[type_url].held
        return {**{n: r for n, r in before.items() if n not in removed}, **good}


class FreeDeltaMachine(FreeMachine):
    """Every name that is asked for is answered, be it that there is none."""

    new_stream = staticmethod(DeltaStream)
    new_client = DeltaSubscriber
    removes_by_name = True


TestDeltaMachine = cases(DeltaMachine)
TestFreeDeltaMachine = cases(FreeDeltaMachine)


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
