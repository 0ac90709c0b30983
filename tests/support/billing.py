"""What tests of billing share: a clock that is set, usage that is written, stores that die."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

from gateway.billing import accounts
from gateway.billing.accounts import ACCOUNTS, PRICES, Account, Known, Version
from gateway.billing.periods import Month, Period
from gateway.billing.statement import Used
from wherry.store import StoreFailed
from wherry.store.memory import MemoryStore


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


class SetClock:
    """Stands still until it is set."""

    def __init__(self, text):
        self.ns = utc(text)

    def set(self, text):
        self.ns = utc(text)

    def now(self):
        return self.ns / 1e9

    def unix_ns(self):
        return self.ns


class Uses:
    """A source of usage that holds single uses."""

    def __init__(self):
        self.uses = []

    def add(self, text, units, *, plan="basic", product="api", app="default", consumer="acme"):
        self.uses.append((utc(text), consumer, Used(app, product, plan, "requests"), units))

    async def billable(self, consumer, begins_ns, ends_ns):
        return (await self.everyone(begins_ns, ends_ns)).get(consumer, {})

    async def everyone(self, begins_ns, ends_ns):
        added = defaultdict(Counter)
        for at, consumer, used, units in self.uses:
            if begins_ns <= at < ends_ns:
                added[consumer][used] += units
        return added


class DyingStore(MemoryStore):
    """Fails at one write: before it does anything, or after it did it and before it says so."""

    def __init__(self, clock):
        super().__init__(clock)
        self.left, self.done_first = None, False

    async def put(self, key, body, *, expect=None):
        dies = self._dies()
        if dies and not self.done_first:
            raise StoreFailed("dying", "before the write")
        record = await super().put(key, body, expect=expect)
        if dies:
            raise StoreFailed("dying", "after the write")
        return record

    async def append(self, log, events):
        dies = self._dies()
        if dies and not self.done_first:
            raise StoreFailed("dying", "before the write")
        new = await super().append(log, events)
        if dies:
            raise StoreFailed("dying", "after the write")
        return new

    def _dies(self):
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


async def opened_account(
    store, *, consumer="acme", terms=(), first="2026-10", zone="UTC", **prices
):
    """Write an account and prices as the observer does."""
    month = Month.parse(first)
    begins_ns = Period.of(month, zone).begins_ns
    account = Account(consumer, consumer.title(), None, zone, month, begins_ns, tuple(terms))
    await store.put(ACCOUNTS + consumer, accounts.body(account))
    for plan, price in prices.items():
        await store.put(PRICES + plan, accounts.body(Known((Version(0, price),))))
    return account
