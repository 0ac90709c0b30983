"""A client and a stream: any interleaving, any refusal, any loss of the connection."""

import os
from collections import deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.goals import LATER, a_goal, is_bad
from xds.hub import Hub, Past
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

FOLLOWED = {CLUSTER: ENDPOINT, LISTENER: ROUTE}
HOLDERS = {ENDPOINT: CLUSTER, ROUTE: LISTENER}
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
MOST_STEPS = 400
DRAIN = 5.0

randoms = st.randoms(use_true_random=False)


def cases(machine):
    """Return the tests of a machine: the same on every run in CI, with time of their own."""
    tests = machine.TestCase
    tests.settings = settings(
        max_examples=6 * settings().max_examples,
        deadline=None,
        derandomize="CI" in os.environ,
        stateful_step_count=40,
        suppress_health_check=list(HealthCheck),
    )
    return pytest.mark.timeout(300)(tests)


class Envoy:
    """Envoy, as far as xDS can see it; the protocol's own ways are `ask` and `refer`.

    Attributes:
        held: What it works with, by type and name.
        extra: Clusters that it asked for by name.
        warming: Clusters that wait for their endpoints.
        uplink: What it said and the server has not heard.
    """

    def __init__(self, before=None):
        self.held = {t: {} for t in TYPES} if before is None else before.held
        self.extra = set() if before is None else before.extra
        self.warming = set()
        self.uplink = deque()

    def wanted(self, type_url):
        if type_url == CLUSTER:
            return frozenset(self.extra)
        if type_url not in HOLDERS:
            return frozenset()
        return self.referred(type_url, self.held[HOLDERS[type_url]])

    @staticmethod
    def referred(type_url, holders):
        return frozenset(n for r in holders.values() for t, n in r.refs if t == type_url)

    def takes(self, response, *, partial, names_culprits):
        """Apply a response as far as it is good; return why it is refused, if it is."""
        type_url = response.type_url
        sent = {r.name: r for r in response.resources}
        bad = [n for n, r in sent.items() if is_bad(r)]
        if not bad or partial:
            good = {n: r for n, r in sent.items() if n not in bad}
            before = self.held[type_url]
            after = self.after(type_url, good, bad, response.removed)
            if type_url in HOLDERS:
                wanted = self.wanted(type_url)
                after = {n: r for n, r in after.items() if n in wanted}
            self.held[type_url] = after
            if type_url == ENDPOINT:
                self.warming -= sent.keys()
            if type_url in FOLLOWED:
                self.follow(type_url, before)
        culprits = ", ".join(bad) if names_culprits else "something"
        return f"Error adding {culprits}: bad" if bad else None

    @staticmethod
    def unanswered():
        """Return no type: it answers at once."""
        return []

    def follow(self, type_url, before):
        followed = FOLLOWED[type_url]
        wanted, asked = self.wanted(followed), self.referred(followed, before)
        self.held[followed] = {n: r for n, r in self.held[followed].items() if n in wanted}
        changed = {n for n, r in self.held[type_url].items() if before.get(n) != r}
        if type_url == CLUSTER:
            self.warming = (self.warming | changed) & self.held[CLUSTER].keys()
        self.refer(followed, asked, wanted, warms=type_url == CLUSTER and bool(changed))


class Machine(RuleBasedStateMachine):
    """Responses and requests travel in order, each direction at its own pace.

    A protocol's machine says `new_stream` and `new_client`, and what must hold at rest.
    """

    @initialize(drain=st.sampled_from([0.0, DRAIN]))
    def connect(self, drain):
        self.drain, self.now, self.goal = drain, 100.0, None
        self.restart()
        self.client = self.new_client(None)
        self.open()

    def restart(self):
        """Lose all memory."""
        self.hub = Hub(lambda _node: "all")
        if self.goal is not None:
            self.hub.publish("all", self.goal)
        self.memory = Past(self.hub, "all")

    def open(self):
        self.stream = self.new_stream(drain=self.drain, memory=self.memory)
        self.downlink, self.serial, self.log = deque(), 0, []
        if self.goal is not None:
            self.arrive(self.stream.publish(self.goal, self.now))

    def arrive(self, responses):
        for response in responses:
            assert response.serial > self.serial
            assert not {r.name for r in response.resources} & set(response.removed)
            self.serial = response.serial
            self.downlink.append(response)
            self.log.append(response)

    @rule(random=randoms)
    def publish(self, random):
        self.adopt(a_goal(random, before=self.goal))

    def adopt(self, goal):
        self.goal = goal
        self.hub.publish("all", goal)
        self.arrive(self.stream.publish(goal, self.now))

    @rule(seconds=st.sampled_from([1.0, 3.0, DRAIN]))
    def time_passes(self, seconds):
        self.now += seconds
        self.tick()

    def tick(self):
        self.arrive(self.stream.tick(self.now))
        assert self.stream.wake_at is None or self.stream.wake_at > self.now

    @precondition(lambda self: self.client.uplink)
    @rule()
    def upload(self):
        self.arrive(self.stream.receive(self.client.uplink.popleft(), self.now))

    @precondition(lambda self: self.downlink)
    @rule(partial=st.booleans(), names_culprits=st.booleans())
    def deliver(self, *, partial=True, names_culprits=True):
        response = self.downlink.popleft()
        self.client.take(response, partial=partial, names_culprits=names_culprits)

    @precondition(lambda self: self.goal)
    @rule(names_culprits=st.booleans())
    def everything_arrives(self, *, names_culprits=True):
        for _ in range(MOST_STEPS):
            if not self.moves(names_culprits=names_culprits):
                break
        else:
            raise AssertionError("client and server never fall silent")
        self.is_at_rest()
        assert self.stream.publish(self.goal, self.now) == self.stream.tick(self.now) == []

    def moves(self, *, names_culprits):
        """Let one thing happen that is due; return whether there was one."""
        if self.client.uplink:
            self.upload()
        elif self.downlink:
            self.deliver(names_culprits=names_culprits)
        elif self.client.unanswered():
            self.answer_first()
        elif (at := self.stream.wake_at) is not None:
            self.now = max(self.now, at)
            self.tick()
        else:
            return False
        return True

    def answer_first(self):
        type_url = self.client.unanswered()[0]
        self.client.say(type_url, *self.client.topics[type_url].answer())

    @invariant()
    def at_most_one_response_of_a_type_is_under_way(self):
        types = [response.type_url for response in self.downlink] + self.client.unanswered()
        assert len(types) == len(set(types))


class EnvoyMachine(Machine):
    """Envoy ends with what is desired, and no route of it ever lacks its cluster.

    Attributes:
        trusted: Whether the server can know what must stay: not always after a new stream.
    """

    trusted = True

    @rule(name=st.sampled_from(LATER))
    def ask_on_demand(self, name):
        if name not in self.client.extra:
            self.client.extra.add(name)
            self.client.ask_more(name)

    @rule(restarted=st.booleans(), together=st.booleans())
    def reconnect(self, *, restarted, together):
        if restarted:
            self.restart()
        self.trusted = self.trusted and together and self.drain > 0 and self.is_known()
        self.client = self.new_client(self.client)
        self.open()
        while together and self.client.uplink:
            self.upload()

    @precondition(lambda self: self.goal)
    @rule(random=randoms)
    def a_good_goal_is_reached_exactly(self, random):
        self.adopt(a_goal(random, good=True, before=self.goal))
        self.everything_arrives()
        held, goal = self.client.held, self.goal
        asked = {n: r for n in self.client.extra if (r := goal.find(CLUSTER, n)) is not None}
        assert held[CLUSTER] == {**goal.named(CLUSTER), **asked}
        assert held[LISTENER] == goal.named(LISTENER)
        for type_url in HOLDERS:
            wanted = self.client.wanted(type_url)
            assert held[type_url] == {n: goal.find(type_url, n) for n in wanted}
        assert not self.client.warming
        assert self.stream.settled
        assert not self.stream.nacks
        self.trusted = True

    def moves(self, *, names_culprits):
        moved = super().moves(names_culprits=names_culprits)
        self.no_route_lacks_its_cluster()
        return moved

    def is_at_rest(self):
        """Check that what is good was delivered."""
        for type_url, named in self.goal.by_type.items():
            wanted = self.client.wanted(type_url)
            for name, resource in named.items():
                needs = [self.goal.find(*ref) for ref in self.goal.needs_of(resource)]
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
