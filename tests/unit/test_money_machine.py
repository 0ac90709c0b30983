"""From a call to the invoice: what was billed is what the raw log comes to, counted by hand.

All parts from the usage log on are the real ones; calls, reports, clocks, configurations and
deaths of processes come as they please.
"""

import asyncio
import json
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.billing import utc

from gateway.billing.biller import Biller
from gateway.billing.books import Books, UnknownAccount
from gateway.billing.closing import LATE_MONTHS
from gateway.billing.source import Metered
from gateway.days import written
from gateway.metering.batch import encoded
from gateway.metering.ingest import ingest, parsed
from gateway.metering.roller import Retention, Roller
from gateway.usage import LOG, Usage
from wherry.config import assemble
from wherry.store.memory import MemoryStore

HOUR = 3600 * 10**9
DAY = 24 * HOUR
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati")
METERED, BUNDLED = "metered", "bundled"
TEXT = """
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {{name: api}}
spec: {{plans: [metered, bundled], routes: [{{path: /x, to: {{mock: {{text: x}}}}}}]}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {{name: metered}}
spec: {{price: {{currency: EUR, usage: [{{model: perUnit, unit: "{unit}"}}]}}}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {{name: bundled}}
spec: {{price: {{currency: EUR, usage: [{{model: bundle, size: 7, amount: "{amount}"}}]}}}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: acme}}
spec: {{timezone: {zone}}}
---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {{name: acme-api}}
spec: {{consumer: acme, product: api, plan: {plan}, state: {state}}}
"""


class Clock:
    """A wall clock that is set, and a steady one that is not."""

    def __init__(self):
        self.ns, self.steady = utc("2026-03-10T12:00"), 0.0

    def now(self):
        self.steady += 100.0
        return self.steady

    def unix_ns(self):
        return self.ns


def cost(price, units):
    """Return what units cost, as a person with a calculator finds it."""
    [each] = price.usage
    if each.model == "bundle":
        return -(-units // each.size) * Decimal(each.amount)
    return (units * Decimal(each.unit)).quantize(Decimal("0.01"), ROUND_HALF_UP)


class Money(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner, self.clock = asyncio.Runner(), Clock()
        self.store = MemoryStore(self.clock)
        self.said = {
            "unit": "0.37",
            "amount": "1.10",
            "zone": "UTC",
            "plan": METERED,
            "state": "active",
        }
        self.uses, self.sent, self.seen = {}, [], {}
        self.configure()
        self.start()
        self.bill()

    def run(self, work):
        return self.runner.run(work)

    def configure(self, **said):
        self.said |= said
        self.world = assemble({Path("world.yaml"): TEXT.format(**self.said)})

    @rule()
    def start(self):
        """Begin anew, as after a kill: nothing is known but what the Store holds."""
        retention = Retention(minutes=100, hours=800, events=5, ids=400)
        self.roller = Roller(self.store, self.clock, retention=retention)
        self.biller = Biller(self.store, Metered(self.store), self.clock)

    def books(self):
        return Books(self.store)

    def reach_ns(self):
        """Return the first instant whose usage is still looked at."""
        account, _ = self.run(self.books().account("acme"))
        month = account.closed or account.first
        for _ in range(LATE_MONTHS - 1):
            month = month.before
        for each in (month, account.first):
            if closed := self.run(self.books().closed("acme", each)):
                return closed.period.begins_ns
        return account.period().begins_ns

    def moment(self, hours):
        return max(self.clock.ns - hours * HOUR, self.reach_ns())

    @rule(
        plan=st.sampled_from([METERED, BUNDLED]),
        hours=st.integers(0, 24 * 45),
        amounts=st.lists(st.sampled_from([0, 1, 3, 10**12]), min_size=1, max_size=3),
        status=st.sampled_from([200, 404, 503]),
        refused=st.booleans(),
    )
    def call(self, plan, hours, amounts, status, refused):
        at = self.moment(hours)
        uses = [
            Usage(
                *(f"use-{len(self.uses)}-{n}", at, "acme", "default", "api", "", plan, "ab12"),
                *(status, {"requests": amount}, {}, refused),
            )
            for n, amount in enumerate(amounts)
        ]
        self.uses |= {use.id: use for use in uses}
        [body] = encoded(uses)
        self.sent.append((f"batch-{len(self.sent)}", body))
        assert self.run(self.store.append(LOG, self.sent[-1:])) == 1

    @rule(which=st.integers(0, 100))
    def send_again(self, which):
        if self.sent:
            again = self.sent[which % len(self.sent)]
            assert self.run(self.store.append(LOG, [again])) == 0

    @rule(name=st.sampled_from("abcdef"), hours=st.integers(0, 24 * 20), amount=st.integers(0, 9))
    def report(self, name, hours, amount):
        at = self.moment(hours)
        if at > self.clock.ns:  # the clock was set back: a report from ahead is refused
            return
        document = {
            "specversion": "1.0",
            "id": name,
            "source": "/elsewhere",
            "type": "dev.wherry.usage.v1",
            "time": written(at),
            "data": {
                "consumer": "acme",
                "product": "api",
                "plan": BUNDLED,
                "amounts": {"requests": amount},
            },
        }
        events = parsed(json.dumps(document).encode())
        taken = self.run(ingest(self.store, self.world, events, self.clock.ns))
        assert taken.new == (name not in self.uses)
        if taken.new:
            self.uses[name] = events[0].event.usage(BUNDLED, self.clock.ns)

    @rule(hours=st.sampled_from([1, 24, 24 * 9, 24 * 33]))
    def wait(self, hours):
        self.clock.ns += hours * HOUR

    @rule(hours=st.sampled_from([1, 26, 24 * 5]))
    def set_the_clock_back(self, hours):
        self.clock.ns -= hours * HOUR

    @rule(zone=st.sampled_from(ZONES))
    def move(self, zone):
        self.configure(zone=zone)

    @rule(plan=st.sampled_from([METERED, BUNDLED]), state=st.sampled_from(["active", "suspended"]))
    def switch(self, plan, state):
        self.configure(plan=plan, state=state)

    @rule(unit=st.sampled_from(["0.37", "0.005", "0"]), amount=st.sampled_from(["1.10", "9"]))
    def reprice(self, unit, amount):
        self.configure(unit=unit, amount=amount)

    @rule()
    def roll(self):
        while self.run(self.roller.roll()) or self.run(self.roller.trim()):
            pass

    @rule()
    def bill(self):
        # the lease of a biller that was killed, or whose clock went back, has to end first
        self.store._leases.clear()
        self.biller._lease = None
        self.run(self.biller.tick(self.world))

    @invariant()
    def no_invoice_changes(self):
        found = self.run(self.books().invoices(limit=500))
        assert [invoice.number for invoice in found] == list(range(1, len(found) + 1))
        for invoice in found:
            assert self.seen.setdefault(invoice.number, invoice) == invoice

    def teardown(self):
        with self.runner:
            self.settle()
            self.compare()

    def settle(self):
        """Close the months that are over, and two more, so that all that came late is billed."""
        for _ in range(3):
            self.clock.ns += 33 * DAY
            self.bill()

    def compare(self):
        try:
            account, _ = self.run(self.books().account("acme"))
        except UnknownAccount:
            return
        rates = self.run(self.books().rates())
        month, periods = account.first, []
        while closed := self.run(self.books().closed("acme", month)):
            periods.append(closed)
            month = month.after
        ends = [each.period.ends_ns for each in periods]
        assert [each.period.begins_ns for each in periods[1:]] == ends[:-1]
        expected = Decimal(0)
        for closed in periods:
            units = Counter()
            for use in self.uses.values():
                if closed.period.begins_ns <= use.at_ns < closed.period.ends_ns and use.billed:
                    units[use.plan] += use.amounts["requests"]
            prices = rates.at(closed.period)
            expected += sum(cost(prices[plan], count) for plan, count in units.items())
        found = self.run(self.books().invoices(limit=500))
        billed = sum(Decimal(line.charge.amount) for each in found for line in each.lines) / 100
        assert billed == expected


TestMoney = Money.TestCase
TestMoney.settings = settings(
    deadline=None,
    max_examples=settings.default.max_examples // 2,
    stateful_step_count=25,
)
