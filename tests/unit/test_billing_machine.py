"""Whatever comes late, dies or moves: each use is billed once and no invoice changes."""

import asyncio
from dataclasses import replace
from datetime import date

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.billing import DyingStore, SetClock, Uses, opened_account

from gateway.billing import accounts
from gateway.billing.accounts import ACCOUNTS
from gateway.billing.closing import LATE_MONTHS, Closer
from gateway.billing.ledger import Entry
from gateway.billing.statement import Used
from gateway.billing.terms import Term
from wherry.model.pricing import Price, UsagePrice
from wherry.store import StoreFailed

HOUR = 3600 * 10**9
DAY = 24 * HOUR
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Niue")
KEY = Used("default", "api", "basic", "requests")


class Billing(RuleBasedStateMachine):
    """One yen for each use, so that money counts uses."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock, self.uses = SetClock("2026-02-10T00:00"), Uses()
        self.store = DyingStore(self.clock)
        self.closer = Closer(self.store, self.uses, self.clock)
        self.paid, self.seen = 0, {}
        one = [UsagePrice(model="perUnit", unit="1")]
        price = Price(currency="JPY", usage=one)
        terms = (Term("api", "", "basic", date(2026, 1, 1)),)
        self.run(opened_account(self.store, terms=terms, first="2026-01", basic=price))

    def run(self, work):
        return self.runner.run(work)

    def account(self):
        return self.run(self.closer.books.account("acme"))[0]

    def reach_ns(self):
        """Return the first instant whose usage is still looked at."""
        account = self.account()
        month = account.closed or account.first
        for _ in range(LATE_MONTHS - 1):
            month = month.before
        closed = self.run(self.closer.books.closed("acme", month))
        return closed.period.begins_ns if closed else self.first_ns()

    def first_ns(self):
        account = self.account()
        first = self.run(self.closer.books.closed("acme", account.first))
        return first.period.begins_ns if first else account.period().begins_ns

    @rule(hours=st.integers(0, 24 * 70), count=st.integers(1, 5))
    def use(self, hours, count):
        at = max(self.clock.ns - hours * HOUR, self.reach_ns())
        self.uses.uses.append((at, "acme", KEY, count))

    @rule(hours=st.integers(-26, 26))
    def use_at_the_edge(self, hours):
        at = self.account().period().begins_ns + hours * HOUR
        self.uses.uses.append((min(max(at, self.reach_ns()), self.clock.ns), "acme", KEY, 1))

    @rule(days=st.integers(1, 40))
    def wait(self, days):
        self.clock.ns += days * DAY

    @rule(zone=st.sampled_from(ZONES))
    def move(self, zone):
        moved = replace(self.account(), zone=zone)
        self.run(self.store.put(ACCOUNTS + "acme", accounts.body(moved)))

    @rule(amount=st.integers(1, 10))
    def pay(self, amount):
        entry = Entry(f"paid-{self.paid}-{self.clock.ns}", 1, "JPY", amount, "paid", "ops")
        self.paid += amount if self.run(self.closer.ledger.add("acme", entry)) else 0

    @rule(left=st.none() | st.integers(0, 6), done_first=st.booleans())
    def close_months(self, left, done_first):
        self.use(24 * 20, 1)
        self.pay(1)
        self.close(left, done_first=done_first)

    def close(self, left, *, done_first):
        self.store.left, self.store.done_first = left, done_first
        try:
            while self.account().period().ends_ns <= self.clock.ns:
                self.run(self.closer.close("acme"))
        except StoreFailed:
            self.closer = Closer(self.store, self.uses, self.clock)
        finally:
            self.store.left = None

    @invariant()
    def no_invoice_changes(self):
        found = self.run(self.closer.books.invoices(limit=500))
        assert [invoice.number for invoice in found] == list(range(1, len(found) + 1))
        for invoice in found:
            assert self.seen.setdefault(invoice.number, invoice) == invoice

    def teardown(self):
        with self.runner:
            self.end()

    def end(self):
        self.clock.ns += 62 * DAY
        self.close(None, done_first=False)
        found = self.run(self.closer.books.invoices(limit=500))
        billed = sum(invoice.total for invoice in found)
        last_ns = self.account().period().begins_ns
        assert billed == sum(count for at, *_, count in self.uses.uses if at < last_ns)
        balance = self.run(self.closer.ledger.balances("acme")).get("JPY", 0)
        assert balance == self.paid - sum(invoice.credit for invoice in found)
        months = [(invoice.month, invoice.begins_ns) for invoice in found]
        assert months == sorted(set(months))


TestBilling = Billing.TestCase
TestBilling.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=20
)
