"""Keys of several apps in any order of making, rotating, revoking and time going by."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import keyring, keys
from gateway.authn import owned
from gateway.authn.owned import MOST_LIVE, TooManyKeys
from gateway.keyring import DeadKey, Grant, Keyring
from wherry.store.memory import MemoryStore

PEPPER = b"p" * 32


class Keys(RuleBasedStateMachine):
    """Compares the store, its notes and a keyring with what a list of keys would say."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store, self.ns = MemoryStore(), 1
        self.ring = Keyring(self.store, PEPPER, self)
        self.made = {}

    def teardown(self):
        self.loop.close()

    def now(self):
        return self.ns / 1e9

    def unix_ns(self):
        return self.ns

    def do(self, work):
        return self.loop.run_until_complete(work)

    def one(self, data):
        """Choose a key by its number: prefixes are random."""
        return list(self.made)[data.draw(st.integers(0, len(self.made) - 1))]

    def live(self, consumer, app, environment):
        return [
            prefix
            for prefix, (party, _, ends) in self.made.items()
            if party == (consumer, app, environment) and (ends is None or self.ns < ends)
        ]

    @rule(
        consumer=st.sampled_from(["alice", "bob"]),
        app=st.sampled_from(["default", "phone"]),
        environment=st.sampled_from([None, "test"]),
        lasts=st.none() | st.integers(1, 50),
    )
    def create(self, consumer, app, environment, lasts):
        full = len(self.live(consumer, app, environment)) >= MOST_LIVE
        ends = None if lasts is None else self.ns + lasts
        grant = Grant(app, None, environment, "", ends)
        work = keyring.create(self.store, PEPPER, consumer, now_ns=self.ns, grant=grant)
        try:
            key, text = self.do(work)
        except TooManyKeys:
            assert full
            return
        assert not full
        self.made[key.prefix] = ((consumer, app, environment), text, ends)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), ends=st.none() | st.integers(0, 50))
    def rotate(self, data, ends):
        prefix = self.one(data)
        party, old, until = self.made[prefix]
        live = self.live(*party)
        ends_ns = None if ends is None else self.ns + ends
        work = keyring.rotate(self.store, PEPPER, prefix, now_ns=self.ns, ends_ns=ends_ns)
        try:
            key, text = self.do(work)
        except DeadKey:
            assert prefix not in live
            return
        except TooManyKeys:
            assert len(live) >= MOST_LIVE
            return
        assert live == [prefix]
        self.made[key.prefix] = (party, text, key.expires_ns)
        if ends_ns is not None:
            self.made[prefix] = (party, old, ends_ns if until is None else min(until, ends_ns))

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def revoke(self, data):
        prefix = self.one(data)
        self.do(keyring.revoke(self.store, prefix, now_ns=self.ns))
        party, text, _ = self.made[prefix]
        self.made[prefix] = (party, text, 0)

    @rule(ns=st.integers(1, 30))
    def time_goes_by(self, ns):
        self.ns += ns

    @invariant()
    def a_keyring_takes_live_keys_and_no_others(self):
        self.ring.take(self.do(self.store.list(keys.FOLDER)).values())
        for prefix, (party, text, ends) in self.made.items():
            found = self.ring.owner(text)
            assert (found is not None) == (ends is None or self.ns < ends)
            assert found is None or (found.prefix, found.consumer) == (prefix, party[0])

    @invariant()
    def every_live_key_is_noted_as_its_consumers(self):
        for consumer in ("alice", "bob"):
            noted = {key.prefix for key in self.do(owned.keys_of(self.store, consumer))}
            for app in ("default", "phone"):
                for environment in (None, "test"):
                    live = self.live(consumer, app, environment)
                    assert len(live) <= MOST_LIVE
                    assert noted >= set(live)


Keys.TestCase.settings = settings(stateful_step_count=30)
TestKeys = Keys.TestCase
