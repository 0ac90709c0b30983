"""Closing a period: rate it, write it down once, number its invoices, settle credit.

Each step may be done again: a closer that dies leaves work that the next one ends, and two at
once end with the same invoices.

1. The closed period is written with its invoices, if nobody wrote one: from here nothing changes.
2. Each invoice gets the next number; see `gateway.billing.numbers`.
3. Credit that the invoices used is taken from the ledger, under an id of its own.
4. The account says that the period is closed.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.billing import accounts
from gateway.billing.accounts import ACCOUNTS, Account, Basis, Closed
from gateway.billing.books import Books, Rates, setups
from gateway.billing.invoices import Invoice, Payer, drafted
from gateway.billing.ledger import Entry, Ledger
from gateway.billing.numbers import Numbers
from gateway.billing.periods import Month, Period, day_at
from gateway.billing.source import NoLongerKept, UsageSource, chargeable
from gateway.billing.statement import (
    Amounts,
    Line,
    Prices,
    Used,
    by_subscription,
    corrections,
    statement,
)
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Conflict, Store

logger = logging.getLogger(__name__)

LATE_MONTHS = 2
"""How many closed months are looked at again for usage that came late."""


class NotNext(WherryError):
    """Another month must be closed first."""

    def __init__(self, consumer: str, month: Month, expected: Month) -> None:
        super().__init__(f"consumer {consumer!r} month {month}: not next, expected {expected}")
        self.consumer, self.month, self.expected = consumer, month, expected


class StillOpen(WherryError):
    """The month has not ended."""

    def __init__(self, consumer: str, month: Month) -> None:
        super().__init__(f"consumer {consumer!r} month {month}: not over, expected one that ended")
        self.consumer, self.month = consumer, month


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a period comes to.

    Attributes:
        invoices: Without numbers and credit.
        basis: What they were made from.
        late: Units of earlier months, where some came late.
    """

    invoices: list[Invoice]
    basis: Basis
    late: dict[str, accounts.Counted]


class Closer:
    """Rates and closes periods.

    Args:
        store: Holds everything that billing writes.
        source: Says what was used.
        clock: Says what has ended.
    """

    def __init__(self, store: Store, source: UsageSource, clock: Clock) -> None:
        self._store, self.source, self._clock = store, source, clock
        self.books, self.ledger = Books(store), Ledger(store)
        self._numbers = Numbers(store, self.books)

    async def close(self, consumer: str, month: Month | None = None) -> list[Invoice]:
        """Close a month and return its invoices; one that is closed already stays as it is.

        Args:
            consumer: Whose.
            month: Which; None is the next. Before any is closed, also one before the first.

        Raises:
            NotNext: An earlier month is open, or the month is not after the last one.
            StillOpen: It has not ended.
            UnknownAccount: Billing never saw the consumer.
        """
        account, _ = await self.books.account(consumer)
        period = account.period(month)
        if month is not None and (found := await self.books.closed(consumer, month)):
            return await self._settle(found)
        if month is not None and month != period.month:
            raise NotNext(consumer, month, period.month)
        if period.ends_ns > self._clock.unix_ns():
            raise StillOpen(consumer, period.month)
        return await self._settle(await self._written(account, period))

    async def draft(self, account: Account, *, late: bool = True) -> list[Invoice]:
        """Return what the open period comes to so far, fees to its end included.

        Args:
            account: Whose.
            late: Whether earlier months are looked at again.
        """
        return (await self.drawn(account, account.period(), late=late)).invoices

    async def drawn(self, account: Account, period: Period, *, late: bool = True) -> Drawn:
        """Rate ``period``; see `draft`."""
        rates = await self.books.rates()
        prices = rates.at(period)
        used = await self.used(account, period, prices)
        lines = statement(period.month, account.terms, prices, used, account.setups)
        counted: dict[str, accounts.Counted] = {}
        if late:
            more, counted = await self._late(account, period.month, rates)
            lines += more
        today = day_at(self._clock.unix_ns(), account.zone)
        payer = Payer(account.consumer, account.title, account.email)
        plans = {key.plan for key in used} | {term.plan for term in account.terms}
        basis = Basis(
            account.terms,
            account.setups,
            {plan: prices[plan] for plan in sorted(plans)},
            tuple(sorted(used.items())),
        )
        return Drawn(drafted(payer, period, lines, prices, today), basis, counted)

    async def used(self, account: Account, period: Period, prices: Prices) -> Amounts:
        """Return what ``account`` is charged for in ``period``, up to now."""
        return await chargeable(self.source, account.consumer, period, account.terms, prices)

    async def _late(
        self, account: Account, month: Month, rates: Rates
    ) -> tuple[list[Line], dict[str, accounts.Counted]]:
        lines: list[Line] = []
        counted: dict[str, accounts.Counted] = {}
        billed: dict[str, accounts.Counted] = {}
        for _ in range(LATE_MONTHS):
            month = month.before
            found = await self.books.closed(account.consumer, month)
            if found is None:
                break
            before = dict(billed.get(str(month), found.basis.used))
            prices = {**rates.at(found.period), **found.basis.prices}
            for name, counts in found.late.items():
                billed.setdefault(name, counts)
            try:
                after = await self._again(found, before, prices)
            except NoLongerKept:
                logger.warning(
                    "usage of a closed period is no longer kept, expected it for corrections",
                    extra={"consumer": account.consumer, "month": str(month)},
                )
                break
            if after != before:
                counted[str(month)] = tuple(sorted(after.items()))
                lines += _difference(found, before, after, prices)
        return lines, counted

    async def _again(self, found: Closed, before: Amounts, prices: Prices) -> Amounts:
        """Return what ``found`` counts now; less than before means that records were lost."""
        terms = found.basis.terms
        now = await chargeable(self.source, found.consumer, found.period, terms, prices)
        fallen = [key for key, amount in before.items() if now.get(key, 0) < amount]
        if fallen:
            logger.warning(
                "usage of a closed period fell, expected no less than was billed",
                extra={"consumer": found.consumer, "month": str(found.period.month)},
            )
        return {key: max(before.get(key, 0), now.get(key, 0)) for key in {*before, *now}}

    async def _written(self, account: Account, period: Period) -> Closed:
        found = await self.books.closed(account.consumer, period.month)
        if found is not None:
            return found
        drawn = await self.drawn(account, period)
        balances = await self.ledger.balances(account.consumer)
        invoices = tuple(paid(each, balances) for each in drawn.invoices)
        now = self._clock.unix_ns()
        closed = Closed(account.consumer, period, now, invoices, drawn.basis, drawn.late)
        try:
            await self._store.put(accounts.key_of(closed), accounts.body(closed), expect=0)
        except Conflict:
            return await self._written(account, period)
        return closed

    async def _settle(self, closed: Closed) -> list[Invoice]:
        invoices = [await self._numbers.given(invoice) for invoice in closed.invoices]
        for invoice in invoices:
            if invoice.credit:
                await self.ledger.add(closed.consumer, _entry(invoice, closed.at_ns))
        if await self._advance(closed):
            numbers = [invoice.name for invoice in invoices]
            extra = {"consumer": closed.consumer, "invoices": numbers}
            logger.info("period closed", extra=extra)
        return invoices

    async def _advance(self, closed: Closed) -> bool:
        month = closed.period.month
        while True:
            account, revision = await self.books.account(closed.consumer)
            if account.closed is not None and account.closed >= month:
                return False
            charged = dict.fromkeys([*account.setups, *setups(closed.invoices)])
            changed = replace(
                account,
                closed=month,
                through_ns=closed.period.ends_ns,
                setups=tuple(charged),
            )
            try:
                key = ACCOUNTS + closed.consumer
                await self._store.put(key, accounts.body(changed), expect=revision)
            except Conflict:
                continue
            return True


def _difference(found: Closed, before: Amounts, after: Amounts, prices: Prices) -> list[Line]:
    """Rate a closed month again by the terms that it was closed by.

    Args:
        found: The month.
        before: What was billed.
        after: What is counted now.
        prices: Those that it was closed by, and those that other plans had then.
    """
    month, terms = found.period.month, found.basis.terms
    more = {key: after[key] - before.get(key, 0) for key in after}
    late: Mapping[Used, int] = {key: units for key, units in more.items() if units}
    return list(
        corrections(
            month,
            _without_setup(statement(month, terms, prices, before)),
            _without_setup(statement(month, terms, prices, after)),
            by_subscription(terms, late),
        )
    )


def _without_setup(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.charge.kind != "setup"]


def paid(draft: Invoice, balances: Mapping[str, int]) -> Invoice:
    """Return ``draft`` with what of it these balances (in smallest units) pay."""
    if draft.total < 0:
        return replace(draft, credit=draft.total)
    return replace(draft, credit=min(max(balances.get(draft.currency, 0), 0), draft.total))


def _entry(invoice: Invoice, at_ns: int) -> Entry:
    return Entry(
        id=f"invoice/{invoice.month}/{invoice.currency}",
        at_ns=at_ns,
        currency=invoice.currency,
        amount=-invoice.credit,
        reason=f"Invoice {invoice.name}",
        by=f"invoice {invoice.month}",
    )
