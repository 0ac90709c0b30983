"""A model of Envoy against the state-of-the-world stream: any interleaving, any refusal."""

from support.free_machine import FreeMachine, Subscriber
from support.stream_machine import Envoy, EnvoyMachine, cases

from xds.resource import CLUSTER, ENDPOINT, FULL_STATE, LISTENER, Resource
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream
from xds.subscription import WILDCARD


class SotwEnvoy(Envoy):
    """Names everything that it wants in every request, and the version that it accepted last."""

    def __init__(self, before=None):
        super().__init__(before)
        self.nonces = {}
        self.versions = {} if before is None else before.versions
        for type_url in self.held:
            if type_url in FULL_STATE or self.wanted(type_url):
                self.ask(type_url)

    def ask(self, type_url, error=None):
        names = self.wanted(type_url)
        if names and type_url == CLUSTER:
            names |= {WILDCARD}
        nonce, version = self.nonces.get(type_url, ""), self.versions.get(type_url, "")
        self.uplink.append(Request(type_url, names, nonce, error, version))

    def ask_more(self, _name):
        self.ask(CLUSTER)

    def refer(self, type_url, asked, wanted, *, warms):
        if wanted != asked or warms:
            self.ask(type_url)

    def take(self, response, *, partial, names_culprits):
        error = self.takes(response, partial=partial, names_culprits=names_culprits)
        self.nonces[response.type_url] = response.nonce
        if error is None:
            self.versions[response.type_url] = response.version
        self.ask(response.type_url, error)

    def after(self, type_url, good, bad, _removed):
        before = self.held[type_url]
        if type_url in FULL_STATE:
            return {**good, **{n: r for n, r in before.items() if n in bad}}
        return {**before, **good}


class SotwMachine(EnvoyMachine):
    """Keeps its routes across a new stream as long as its clusters' version is remembered.

    With another version the server cannot know which clusters are there that are no longer
    desired; it cannot list those, and what a list leaves out is gone. Nor can it where nothing
    drains: clusters go out before the client has said that it has routes.
    """

    new_stream = staticmethod(SotwStream)
    new_client = SotwEnvoy

    def is_known(self):
        version = self.client.versions.get(CLUSTER)
        return version is None or self.memory.whole(CLUSTER, version) is not None


EVERYTHING = frozenset({WILDCARD, "and no name was ever given"})


class SotwSubscriber(Subscriber):
    """Gives the whole list every time; before it ever gave a name, no list means everything."""

    def subscribe(self, type_url, names, nonce, error):
        topic = self.topics[type_url]
        was_legacy = topic.legacy
        topic.legacy = (topic.names is None or topic.legacy) and not names
        wildcard = topic.legacy or WILDCARD in names or (topic.wildcard and not was_legacy)
        topic.want((names - {WILDCARD}) | (topic.names or frozenset()), wildcard=wildcard)
        self.say(type_url, nonce, error)

    def unsubscribe(self, type_url, names, nonce):
        topic = self.topics[type_url]
        topic.want(topic.names - names, wildcard=topic.wildcard and WILDCARD not in names)
        self.say(type_url, nonce, None)

    def say(self, type_url, nonce, error):
        topic = self.topics[type_url]
        star = {WILDCARD} if topic.wildcard and not topic.legacy else set()
        self.uplink.append(Request(type_url, topic.names | star, nonce, error, topic.version))

    @staticmethod
    def meaning(request, before):
        """Return what is wanted after ``request``, and what it calls for."""
        names = request.names
        if not names and before in (None, EVERYTHING):
            names = EVERYTHING
        return names, names - (before or frozenset())

    def after(self, type_url, good, bad, _removed):
        before = self.topics[type_url].held
        if type_url in FULL_STATE:
            return {**good, **{n: r for n, r in before.items() if n in bad}}
        return {**before, **good}


class FreeSotwMachine(FreeMachine):
    """Nothing tells a client that what it asked for does not exist."""

    new_stream = staticmethod(SotwStream)
    new_client = SotwSubscriber
    removes_by_name = False


TestSotwMachine = cases(SotwMachine)
TestFreeSotwMachine = cases(FreeSotwMachine)


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
