"""What billing has written down, read back."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.billing import accounts
from gateway.billing.accounts import (
    ACCOUNTS,
    CLOSED,
    ISSUED,
    PRICES,
    Account,
    BadBilling,
    Closed,
    Known,
)
from gateway.billing.invoices import Invoice
from gateway.billing.periods import Month, Period
from wherry.errors import WherryError
from wherry.model.pricing import Price
from wherry.store import Store

logger = logging.getLogger(__name__)

MAX_PAGE = 500
"""Most invoices that are listed at once."""


class UnknownAccount(WherryError):
    """Billing has never seen the consumer."""

    def __init__(self, consumer: str) -> None:
        super().__init__(
            f"consumer {consumer!r}: not known to billing, expected one that was configured while "
            "the gateway ran"
        )
        self.consumer = consumer


class UnknownInvoice(WherryError):
    """No invoice has that number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"invoice {number:08d}: not found, expected a number that was issued")
        self.number = number


@dataclass(frozen=True, slots=True)
class Rates:
    """Every plan's prices.

    Attributes:
        plans: By name.
    """

    plans: Mapping[str, Known]

    def at(self, period: Period) -> dict[str, Price | None]:
        """Return the price of each plan in ``period``."""
        return {name: known.at(period) for name, known in self.plans.items()}


class Books:
    """Accounts, prices, closed periods and invoices in the Store.

    Args:
        store: Holds the records.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def account(self, consumer: str) -> tuple[Account, int]:
        """Return the account and its record's revision.

        Raises:
            UnknownAccount: There is none.
        """
        record = await self._store.get(ACCOUNTS + consumer)
        if record is None:
            raise UnknownAccount(consumer)
        return accounts.account(record), record.revision

    async def accounts(self) -> list[Account]:
        """Return every account, by name; an unreadable one is logged and left out."""
        found = []
        for key, record in (await self._store.list(ACCOUNTS)).items():
            try:
                found.append(accounts.account(record))
            except BadBilling:
                logger.warning("account unreadable", extra={"record": key})
        return sorted(found, key=lambda each: each.consumer)

    async def rates(self) -> "Rates":
        """Return the prices of every plan that is or was configured.

        Raises:
            BadBilling: A record is unreadable.
        """
        found = await self._store.list(PRICES)
        return Rates(
            {key.removeprefix(PRICES): accounts.known(each) for key, each in found.items()}
        )

    async def closed(self, consumer: str, month: Month) -> Closed | None:
        """Return a closed period, or None when it is not closed."""
        record = await self._store.get(f"{CLOSED}{consumer}/{month}")
        return None if record is None else accounts.closed(record)

    async def invoice(self, number: int) -> Invoice:
        """Return an invoice.

        Raises:
            UnknownInvoice: There is none with that number.
        """
        record = await self._store.get(accounts.number_key(number))
        if record is None:
            raise UnknownInvoice(number)
        return accounts.invoice(record)

    async def invoices(
        self, consumer: str | None = None, *, after: int = 0, limit: int = 100
    ) -> list[Invoice]:
        """Return at most ``limit`` invoices with numbers over ``after``, by number.

        Args:
            consumer: Only theirs; None is all.
            after: Last number that is not wanted.
            limit: 1 to `MAX_PAGE`.
        """
        if consumer is None:
            return await self._in_a_row(after, limit)
        issued = await self._store.list(f"{ISSUED}{consumer}/")
        numbers = sorted(n for n in (int(each.body) for each in issued.values()) if n > after)
        return [await self.invoice(number) for number in numbers[:limit]]

    async def _in_a_row(self, after: int, limit: int) -> list[Invoice]:
        found: list[Invoice] = []
        while len(found) < limit:
            record = await self._store.get(accounts.number_key(after + len(found) + 1))
            if record is None:
                break
            found.append(accounts.invoice(record))
        return found


def setups(lines: Sequence[Invoice]) -> list[tuple[str, str]]:
    """Return product and plan of each setup fee on these invoices."""
    return [
        (line.product, line.plan)
        for invoice in lines
        for line in invoice.lines
        if line.charge.kind == "setup"
    ]
