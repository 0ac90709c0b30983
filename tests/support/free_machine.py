"""Any subscriber against a stream: it asks, lets go, refuses, is silent and comes back at will."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from support.goals import NAMES, a_goal, chance, is_bad, some
from support.stream_machine import Machine, randoms
from xds.resource import FULL_STATE, Resource
from xds.subscription import WILDCARD

GHOST = "ghost"
TYPES = st.sampled_from(list(NAMES))


class Topic:
    """What a client wants and holds of one type.

    Attributes:
        names: What it asks for; None before it asks for anything.
        wildcard: Whether it wants everything.
        legacy: Whether it does so because it never gave a name.
        version: What it accepted last.
        nonces: Of responses that it answered, oldest first.
        unanswered: A nonce that it has seen and not answered, and why it refuses that response.
    """

    def __init__(self, before=None):
        self.names, self.wildcard, self.legacy = None, False, False
        self.held, self.version = ({}, "") if before is None else (before.held, before.version)
        self.nonces, self.unanswered = [], None

    def wants(self, name):
        return self.wildcard or name in self.names

    def want(self, names, *, wildcard):
        self.names, self.wildcard = names, wildcard
        self.held = {n: r for n, r in self.held.items() if self.wants(n)}

    def answer(self):
        """Return nonce and error of the answer that is due, and of none if none is."""
        if self.unanswered is None:
            return (self.nonces[-1] if self.nonces else ""), None
        answer, self.unanswered = self.unanswered, None
        self.nonces.append(answer[0])
        return answer


class Subscriber:
    """A client of any shape; a protocol's own adds what it says and how it takes responses."""

    def __init__(self, before=None):
        self.uplink = deque()
        self.topics = {t: Topic(None if before is None else before.topics[t]) for t in NAMES}

    def opened(self):
        return {t: topic for t, topic in self.topics.items() if topic.names is not None}

    def unanswered(self):
        return [t for t, topic in self.topics.items() if topic.unanswered is not None]

    def take(self, response, *, partial, names_culprits):
        topic = self.topics[response.type_url]
        sent = {r.name: r for r in response.resources}
        bad = [n for n, r in sent.items() if is_bad(r)]
        if not bad or partial:
            good = {n: r for n, r in sent.items() if n not in bad}
            after = self.after(response.type_url, good, bad, response.removed)
            topic.held = {n: r for n, r in after.items() if topic.wants(n)}
        if not bad:
            topic.version = response.version
        culprits = ", ".join(bad) if names_culprits else "something"
        topic.unanswered = (response.nonce, f"Error adding {culprits}: bad" if bad else None)


class FreeMachine(Machine):
    """What a client holds in the end is what it asked for, whatever it did before.

    Attributes:
        asked: Names, by type, that the server heard of and has not answered.
        heard: What the server knows to be wanted, by type.
    """

    def open(self):
        self.asked = {t: set() for t in NAMES}
        self.heard = dict.fromkeys(NAMES)
        super().open()

    def arrive(self, responses):
        super().arrive(responses)
        for response in responses:
            sent = {r.name for r in response.resources}
            self.asked[response.type_url] -= {*sent, *response.removed, WILDCARD}

    def draw_names(self, random, type_url):
        names = some(random, (*NAMES[type_url], GHOST), 25)
        return frozenset([*names, *([WILDCARD] if chance(random, 20) else [])])

    @rule(random=randoms, type_url=TYPES, answering=st.booleans())
    def subscribe(self, random, type_url, *, answering):
        topic = self.client.topics[type_url]
        if answering or topic.unanswered is None:
            self.client.subscribe(type_url, self.draw_names(random, type_url), *topic.answer())
        else:
            nonce = topic.nonces[-1] if topic.nonces else ""
            self.client.subscribe(type_url, self.draw_names(random, type_url), nonce, None)

    @rule(random=randoms, type_url=TYPES)
    def unsubscribe(self, random, type_url):
        topic = self.client.topics[type_url]
        if topic.names is not None and not topic.legacy:
            nonce = topic.nonces[-1] if topic.nonces else ""
            self.client.unsubscribe(type_url, self.draw_names(random, type_url), nonce)

    @precondition(lambda self: self.client.unanswered())
    @rule(random=randoms)
    def answer(self, random):
        type_url = random.choice(self.client.unanswered())
        self.client.say(type_url, *self.client.topics[type_url].answer())

    @rule(random=randoms, type_url=TYPES)
    def answer_an_older_nonce(self, random, type_url):
        if older := self.client.topics[type_url].nonces[:-1]:
            self.client.say(type_url, random.choice(older), None)

    @precondition(lambda self: self.client.uplink)
    @rule()
    def upload(self):
        request = self.client.uplink[0]
        before = self.heard[request.type_url]
        after, asked = self.client.meaning(request, before)
        self.heard[request.type_url] = after
        waiting = self.asked[request.type_url]
        waiting |= asked
        if WILDCARD not in after:
            waiting &= after
        super().upload()

    @rule(random=randoms, restarted=st.booleans(), together=st.booleans())
    def reconnect(self, random, *, restarted, together):
        if restarted:
            self.restart()
        before, self.client = self.client, self.new_client(self.client)
        for type_url, topic in before.opened().items():
            now = self.client.topics[type_url]
            whole = self.memory.whole(type_url, topic.version) or {}
            if type_url in FULL_STATE and not whole.keys() <= topic.held.keys():
                now.version = ""  # it accepted that while it asked for less
            for name in some(random, list(now.held), 20):
                body = random.choice((b"1", b"2", b"of another server"))
                now.held = {**now.held, name: Resource(type_url, name, body, now.held[name].refs)}
            star = {WILDCARD} if topic.wildcard and (topic.names or chance(random, 50)) else set()
            if topic.names or topic.wildcard:
                self.client.subscribe(type_url, frozenset({*topic.names, *star}), "", None)
            else:
                now.held = {}
        self.open()
        while together and self.client.uplink:
            self.upload()

    @precondition(lambda self: self.goal)
    @rule(random=randoms)
    def a_good_goal_is_reached_exactly(self, random):
        self.adopt(a_goal(random, good=True, before=self.goal))
        self.everything_arrives()
        assert self.stream.settled or self.cannot_let_go()
        assert not self.stream.nacks

    def is_at_rest(self):
        """Check that what is wanted is held, and that what is bad is reported."""
        opened = self.client.opened()
        wanted = {t: self.wanted(t, topic) for t, topic in opened.items()}
        any_bad = any(is_bad(r) for named in wanted.values() for r in named.values())
        exact, bound = True, self.cannot_let_go()
        for type_url, topic in opened.items():
            named, asked = wanted[type_url], self.asked[type_url]
            held = topic.held
            if not self.removes(type_url):
                held = {n: r for n, r in held.items() if n in named}
            kept = self.kept_on_demand(type_url, wanted)
            held = {n: r for n, r in held.items() if n in named or n not in kept}
            assert any_bad or held == named or (bound and named.items() <= held.items())
            exact = exact and held == named
            delivered, refused, bad = self.sorted_out(named, wanted)
            assert {n: held.get(n) for n in delivered} == delivered
            nack = self.stream.nacks.get(type_url)
            assert refused <= set(nack.names if nack else ()) <= bad
            assert not nack or not nack.sought
            assert not asked & delivered.keys()
            assert any_bad or not asked - named.keys() or not self.removes_by_name
        assert self.stream.settled == exact or bound

    def kept_on_demand(self, type_url, wanted):
        """Return names that stay, unlisted, for what is wanted refers to them."""
        refs = {ref for named in wanted.values() for r in named.values() for ref in r.refs}
        return {name for kind, name in refs if kind == type_url}

    def cannot_let_go(self):
        """Return whether the client insists on what is gone, and may hold it, and what it needs.

        In the state of the world nothing but the client can end that.
        """
        for type_url, topic in self.client.opened().items():
            unclear = self.stream.subscriptions[type_url].doubt.keys()
            insists = topic.names | topic.held.keys() | unclear
            if not self.removes(type_url) and insists - self.wanted(type_url, topic).keys():
                return True
        return False

    def wanted(self, type_url, topic):
        named = dict(self.goal.named(type_url)) if topic.wildcard else {}
        found = {name: self.goal.find(type_url, name) for name in topic.names}
        return named | {name: r for name, r in found.items() if r is not None}

    def sorted_out(self, named, wanted):
        """Return what must be there, what must have been refused, and all that is bad."""
        delivered, refused, bad = {}, set(), set()
        for name, resource in named.items():
            needs = (wanted.get(t, {}).get(n) for t, n in self.goal.reach(resource))
            ready = not any(need is not None and is_bad(need) for need in needs)
            if is_bad(resource):
                bad.add(name)
                refused |= {name} if ready else set()
            elif ready:
                delivered[name] = resource
        return delivered, refused, bad

    def removes(self, type_url):
        """Return whether a response can take something away."""
        return self.removes_by_name or type_url in FULL_STATE
