"""Prepaid products: whose credit is used up, so that their calls stop."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from gateway.billing.accounts import Account
from gateway.billing.books import Rates
from gateway.billing.closing import Closer
from gateway.billing.periods import Period, midnight_ns
from gateway.billing.rating import worth
from gateway.billing.source import Together, UsageSource, chargeable
from gateway.billing.statement import Part, Prices, What, divided, statement
from gateway.billing.terms import Term, trial_end
from wherry.errors import WherryError
from wherry.model.pricing import Price
from wherry.store import Store, View
from wherry.store.follow import follow

logger = logging.getLogger(__name__)

STOPPED = "billing/stopped/"

_NONE = b"[]"

_FEW = 4
"""Consumers up to whom each is asked for alone; for more, everyone's usage is read once."""


class Balances:
    """Who is stopped, as one process has found it and all of them follow.

    What was used counts once it is in the log, and `Estimator` looks every few seconds. So a
    consumer overdraws by at most what they use in that time: at most their rate limit for the
    usage flush, the pause between two looks (two seconds, or nine times what a look takes) and
    one write to the Store. The overdraft is owed on the invoice.

    Attributes:
        loaded: Set once the Store was read for the first time.

    Args:
        store: Holds the records.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopped: frozenset[tuple[str, str]] = frozenset()
        self.loaded = asyncio.Event()

    def stopped(self, consumer: str, product: str) -> bool:
        """Return whether the consumer's credit for the product is used up."""
        return (consumer, product) in self._stopped

    async def follow(self) -> None:
        """Keep up with the Store until cancelled; while it fails, what was read last counts."""
        await follow(self._store, STOPPED, self._take, what="prepaid balances")

    async def _take(self, view: View) -> None:
        self._stopped = frozenset(_read(view))
        self.loaded.set()


def _read(view: View) -> Iterable[tuple[str, str]]:
    for key, record in view.items():
        try:
            products = json.loads(record.body)
        except ValueError:
            logger.warning("stopped products unreadable", extra={"record": key})
            continue
        for product in products:
            yield key.removeprefix(STOPPED), product


class Estimator:
    """Finds out whose credit is used up, and writes it down.

    Args:
        store: Holds the records.
        closer: Rates what is not billed yet.
    """

    def __init__(self, store: Store, closer: Closer) -> None:
        self._store, self._closer = store, closer
        self._failing: set[str] = set()

    async def look(self, accounts: Iterable[Account], rates: Rates, now_ns: int) -> None:
        """Look at every account that has a prepaid plan; one's trouble is logged once."""
        held = await self._store.list(STOPPED)
        prepaid = {name for name, each in rates.plans.items() if each.prepaid}
        found = []
        for account in accounts:
            record = held.get(STOPPED + account.consumer)
            before = record.body if record else _NONE
            if before != _NONE or any(each.plan in prepaid for each in account.terms):
                found.append((account.consumer, before))
        self._failing &= {consumer for consumer, _ in found}
        own = self._closer.source
        source = own if len(found) <= _FEW else Together(own)
        for consumer, before in found:
            try:
                await self._note(
                    consumer, before, await self.stopped(consumer, rates, source, now_ns)
                )
            except WherryError:
                if consumer not in self._failing:
                    logger.exception("prepaid credit not compared", extra={"consumer": consumer})
                self._failing.add(consumer)
            else:
                self._failing.discard(consumer)

    async def stopped(
        self, consumer: str, rates: Rates, source: UsageSource, now_ns: int
    ) -> list[str]:
        """Return the products that ``consumer`` may not use, by name.

        One is stopped when more than all credit is spent, or all of it and its next unit costs:
        units of a trial and included ones need no credit.
        """
        left = Counter(await self._closer.ledger.balances(consumer))
        # after the balance: a month closed in between is then counted too little, and not twice
        account, _ = await self._closer.books.account(consumer)
        now: Mapping[What, Part] = {}
        prices: Prices = {}
        for period in _open(account, now_ns):
            month, terms, prices = period.month, account.terms, rates.at(period)
            used = await chargeable(source, consumer, period, terms, prices)
            for line in statement(month, terms, prices, used, account.setups):
                left[line.currency] -= line.charge.amount if line.prepaid else 0
            now = divided(month, terms, prices, used)
        found = set()
        for term in account.terms:
            price = prices[term.plan]
            if term.stands and price is not None and price.prepaid:
                credit = left[price.currency]
                if credit < 0 or (credit == 0 and _costs(account, term, now, price, now_ns)):
                    found.add(term.product)
        return sorted(found)

    async def _note(self, consumer: str, before: bytes, products: list[str]) -> None:
        body = json.dumps(products).encode()
        if before != body:
            await self._store.put(STOPPED + consumer, body)
            extra = {"consumer": consumer, "products": products}
            logger.info("prepaid products are stopped", extra=extra)


def _open(account: Account, now_ns: int) -> Iterator[Period]:
    """Yield the periods that are not closed, up to the one that it is."""
    period = account.period()
    yield period
    while period.ends_ns <= now_ns:
        period = Period.of(period.month.after, account.zone, after_ns=period.ends_ns)
        yield period


def _costs(
    account: Account, term: Term, now: Mapping[What, Part], price: Price, now_ns: int
) -> bool:
    """Return whether the next unit of any meter costs."""
    day = trial_end(account.terms, term.product, price)
    if day is not None and now_ns < midnight_ns(day, account.zone):
        return False
    part = now.get(term.what)
    usage, allowance = (part.usage, part.allowance) if part else ({}, Fraction(1))
    more = {each.meter: usage.get(each.meter, 0) + 1 for each in price.usage}
    return worth(price, more, allowance=allowance) > worth(price, usage, allowance=allowance)
