"""Exactly once: whatever is cut off, sent twice or done twice, sums are those of what was kept."""

import asyncio
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.days import written
from gateway.metering.batch import MINUTE_NS, Key, Sum, encoded, uses
from gateway.metering.ingest import ingest, parsed
from gateway.metering.journal import Journal
from gateway.metering.roller import Retention, Roller
from gateway.metering.rollup import Level, series, used
from gateway.usage import LOG, Usage
from wherry.config import assemble
from wherry.errors import WherryError
from wherry.store.memory import MemoryStore

WORLD = assemble(
    {
        Path("world.yaml"): """
services: {shop: {}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: shop}
spec: {plans: [basic], routes: [{path: /, to: {service: shop}}]}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: shop, plan: basic}]}
"""
    }
)
BEGINS = 20_000 * 1440 * MINUTE_NS
MINUTES = 3 * 1440
ENDS = BEGINS + MINUTES * MINUTE_NS
MOMENTS = st.sampled_from([0, 1, 59, 60, 61, 1439, 1440, 1500, MINUTES - 1])


class Cut(WherryError):
    """The store broke off."""


class CutStore(MemoryStore):
    """A store whose writes of records break off when the test says so."""

    def __init__(self):
        super().__init__()
        self.puts_left, self.said = None, True

    async def put(self, key, body, *, expect=None):
        if self.puts_left == 0:
            if not self.said:
                await super().put(key, body, expect=expect)
            raise Cut("cut off")
        if self.puts_left is not None:
            self.puts_left -= 1
        return await super().put(key, body, expect=expect)


class Clock:
    """Stands at the end of the time that is asked about."""

    def now(self):
        return 0.0

    def unix_ns(self):
        return ENDS


def total(events):
    found = {}
    for use in events:
        for meter, amount in use.amounts.items():
            key = Key(use.consumer, use.app, use.product, use.plan, use.operation, meter)
            value = Sum(amount, amount if use.billed else 0, 1, int(use.status >= 400))
            found[key] = found.get(key, Sum()).plus(value)
    return found


class Metering(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.store = CutStore()
        self.journal, self.left = Journal.begun(self.folder), []
        self.rollers = [self.new_roller(), self.new_roller()]
        self.count, self.pending, self.kept, self.sent = 0, [], [], []
        self.reported = {}

    def new_roller(self):
        return Roller(self.store, Clock(), retention=Retention(minutes=30, hours=60))

    def teardown(self):
        if not hasattr(self, "journal"):
            return
        self.recover()
        self.roll(0)
        assert self.asked() == total([*self.kept, *self.reported.values()])
        for journal in (self.journal, *self.left):
            journal.close()
        assert list(self.folder.iterdir()) == []
        self.runner.close()
        shutil.rmtree(self.folder)

    def asked(self, **which):
        which = {"begins_ns": BEGINS, "ends_ns": ENDS, **which}
        return self.runner.run(used(self.store, **which))

    @rule(
        consumer=st.sampled_from(["alice", "bob", "carol"]),
        minute=MOMENTS,
        status=st.sampled_from([200, 404, 502]),
    )
    def use(self, consumer, minute, status):
        self.count += 1
        self.pending.append(
            Usage(
                *(f"use-{self.count}", BEGINS + minute * MINUTE_NS + self.count, consumer),
                *("default", "shop", "list", "basic", "ab12", status, {"requests": 1}),
            )
        )

    @rule()
    def keep(self):
        if self.pending:
            self.journal.write(encoded(self.pending))
            self.kept += self.pending
            self.pending = []

    @rule(cut=st.integers(1, 400))
    def lose_power_in_the_middle_of_a_write(self, cut):
        bodies = [body for use in self.pending for body in encoded([use])]
        if not bodies:
            return
        before = len(self.journal.waiting(1 << 30))
        self.journal.write(bodies)
        segment = self.journal._segment
        self.die()
        segment.write_bytes(segment.read_bytes()[: -min(cut, sum(map(len, bodies)))])
        self.restart()
        tail = self.left[-1].waiting(1 << 30)[before:]
        found = [use.id for held in tail for use in uses(held.body)]
        assert found == [use.id for use in self.pending[: len(found)]]
        self.kept += self.pending[: len(found)]
        self.pending = []

    @rule()
    def crash(self):
        self.die()
        self.pending = []
        self.restart()

    def die(self):
        for journal in (self.journal, *self.left):
            if journal._file >= 0:
                os.close(journal._file)
            os.close(journal._lock)

    def restart(self):
        here = self.journal._folder
        self.journal, found = Journal.begun(self.folder), list(Journal.left(self.folder))
        self.left = sorted(found, key=lambda journal: journal._folder == here)
        self.rollers = [self.new_roller(), self.new_roller()]

    @rule(most=st.integers(1, 1000), told=st.booleans())
    def send(self, most, told):
        held = self.journal.waiting(most)
        self.runner.run(self.store.append(LOG, held))
        self.sent += held
        if told:  # else the answer got lost, and it is sent again
            self.journal.sent(len(held))

    @rule()
    def recover(self):
        for journal in (self.journal, *self.left):
            held = journal.waiting(1 << 30)
            self.runner.run(self.store.append(LOG, held))
            journal.sent(len(held))

    @rule(which=st.integers(0, 100))
    def deliver_again(self, which):
        if self.sent:
            self.runner.run(self.store.append(LOG, [self.sent[which % len(self.sent)]]))

    @rule(name=st.sampled_from("abcd"), minute=MOMENTS)
    def report(self, name, minute):
        at = BEGINS + minute * MINUTE_NS
        document = {
            "specversion": "1.0",
            "id": name,
            "source": "/elsewhere",
            "type": "dev.wherry.usage.v1",
            "time": written(at),
            "data": {"consumer": "alice", "product": "shop", "amounts": {"tokens": 7}},
        }
        events = parsed(json.dumps(document).encode())
        taken = self.runner.run(ingest(self.store, WORLD, events, ENDS))
        assert taken.new == (name not in self.reported)
        if taken.new:
            (self.reported[name],) = [each.event.usage("basic", ENDS) for each in events]

    @rule(which=st.integers(0, 1))
    def roll(self, which):
        self.rollers[which]._known.clear()  # as it does when the other had the lease
        self.runner.run(self.rollers[which].roll())

    @rule(which=st.integers(0, 1), puts=st.integers(0, 8), said=st.booleans())
    def roll_and_be_cut_off(self, which, puts, said):
        self.store.puts_left, self.store.said = puts, said
        self.rollers[which]._known.clear()
        with suppress(Cut):
            self.runner.run(self.rollers[which].roll())
        self.store.puts_left = None

    @invariant()
    def sums_are_those_of_the_log(self):
        if not hasattr(self, "store"):
            return
        log = [
            use
            for event in self.runner.run(self.store.read(LOG, limit=10_000))
            for use in uses(event.body)
        ]
        assert self.asked() == total(log)

    @rule(first=MOMENTS, last=MOMENTS, consumer=st.sampled_from([None, "alice", "bob"]))
    def ask_for_a_part(self, first, last, consumer):
        log = [
            use
            for event in self.runner.run(self.store.read(LOG, limit=10_000))
            for use in uses(event.body)
        ]
        begins, ends = BEGINS + first * MINUTE_NS, BEGINS + last * MINUTE_NS
        within = [
            use for use in log if begins <= use.at_ns < ends and consumer in (None, use.consumer)
        ]
        found = self.asked(begins_ns=begins, ends_ns=ends, consumer=consumer)
        assert found == total(within)
        for step in Level:
            points = self.runner.run(
                series(self.store, meter="requests", begins_ns=BEGINS, ends_ns=ENDS, step=step)
            )
            assert sum(point.sum.calls for point in points) == sum(
                "requests" in use.amounts for use in log
            )


TestMetering = Metering.TestCase
TestMetering.settings = settings(stateful_step_count=25, deadline=None)
