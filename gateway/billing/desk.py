"""What people and programs may ask of billing, whichever way they come."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.billing.closing import Closer, paid
from gateway.billing.invoices import Invoice
from gateway.billing.ledger import Entry, IdTaken
from gateway.billing.money import minor, spelled
from gateway.billing.periods import Month
from gateway.billing.preview import Compared, preview
from gateway.billing.source import Metered, UsageSource
from wherry import audit
from wherry.clock import Clock
from wherry.store import Store


@dataclass(frozen=True, slots=True)
class Credit:
    """A consumer's credit.

    Attributes:
        balances: What is left of it after the last closed month, in smallest units by currency.
        entries: How it came about, oldest first.
        unbilled: What the open month comes to so far; what of it the balance pays is taken when
            the month closes.
    """

    balances: Mapping[str, int]
    entries: Sequence[Entry]
    unbilled: Mapping[str, int]

    def document(self) -> dict[str, object]:
        """Return its JSON form; amounts are decimals in text."""
        return {
            "balances": {
                currency: spelled(amount, currency)
                for currency, amount in sorted(self.balances.items())
            },
            "unbilled": {
                currency: spelled(amount, currency)
                for currency, amount in sorted(self.unbilled.items())
            },
            "entries": [
                {
                    "id": entry.id,
                    "atNs": str(entry.at_ns),
                    "currency": entry.currency,
                    "amount": spelled(entry.amount, entry.currency),
                    "reason": entry.reason,
                    "by": entry.by,
                }
                for entry in self.entries
            ],
        }


class Desk:
    """Invoices, drafts, previews and credit.

    Args:
        store: Holds everything that billing writes.
        clock: Where the time is read.
        source: Says what was used; None is what the gateway has metered.
    """

    def __init__(self, store: Store, clock: Clock, source: UsageSource | None = None) -> None:
        self._store, self._clock = store, clock
        self._closer = Closer(store, source or Metered(store), clock)

    async def invoices(
        self, consumer: str | None = None, *, after: int = 0, limit: int = 100
    ) -> list[Invoice]:
        """See `gateway.billing.books.Books.invoices`."""
        return await self._closer.books.invoices(consumer, after=after, limit=limit)

    async def invoice(self, number: int) -> Invoice:
        """See `gateway.billing.books.Books.invoice`."""
        return await self._closer.books.invoice(number)

    async def draft(self, consumer: str) -> list[Invoice]:
        """Return what the open period comes to so far, and what of it is paid by credit.

        One draft for each currency.

        Raises:
            UnknownAccount: Billing never saw the consumer.
        """
        account, _ = await self._closer.books.account(consumer)
        balances = await self._closer.ledger.balances(consumer)
        return [paid(draft, balances) for draft in await self._closer.draft(account)]

    async def close(self, consumer: str, month: Month | None = None, *, by: str) -> list[Invoice]:
        """See `gateway.billing.closing.Closer.close`; ``by`` is who asks, for the audit log."""
        found = await self._closer.close(consumer, month)
        after = [invoice.name for invoice in found]
        await self._note(by, "closeMonth", f"period/{consumer}", after)
        return found

    async def preview(
        self, consumer: str, product: str, plan: str, *, months: int = 3
    ) -> list[Compared]:
        """See `gateway.billing.preview.preview`."""
        account, _ = await self._closer.books.account(consumer)
        now_ns = self._clock.unix_ns()
        return await preview(self._closer, account, product, plan, months=months, now_ns=now_ns)

    async def credit(self, consumer: str) -> Credit:
        """Return a consumer's credit.

        Raises:
            UnknownAccount: Billing never saw the consumer.
        """
        drafts = await self.draft(consumer)
        entries = await self._closer.ledger.entries(consumer)
        unbilled = {draft.currency: draft.total for draft in drafts}
        return Credit(await self._closer.ledger.balances(consumer), entries, unbilled)

    async def add_credit(
        self,
        consumer: str,
        amount: str,
        currency: str,
        *,
        reason: str,
        by: str,
        each: str | None = None,
    ) -> Credit:
        """Write credit down, once for each id, and return all of it.

        Args:
            consumer: Whose.
            amount: A decimal; below 0 takes credit away.
            currency: Of the amount.
            reason: One sentence for people.
            by: Who does it, for the audit log, too.
            each: Idempotency key of the caller; None makes one.

        Raises:
            BadAmount: The amount is none of the currency.
            IdTaken: The id was used for another amount.
            UnknownAccount: Billing never saw the consumer.
            UnknownCurrency: There is no such currency.
        """
        found = minor(amount, currency)
        await self._closer.books.account(consumer)
        own = each or secrets.token_hex(16)
        entry = Entry(f"credit/{own}", self._clock.unix_ns(), currency, found, reason, by)
        fresh = await self._closer.ledger.add(consumer, entry)
        credit = await self.credit(consumer)
        if not fresh:
            _expect_alike(credit.entries, entry, own)
        after = {"id": own, "amount": amount, "currency": currency, "reason": reason}
        await self._note(by, "addCredit", f"credit/{consumer}", after)
        return credit

    async def _note(self, by: str, verb: str, subject: str, after: object) -> None:
        at_ns = self._clock.unix_ns()
        await audit.noted(
            self._store, at_ns=at_ns, actor=by, verb=verb, subject=subject, after=after
        )


def _expect_alike(entries: Sequence[Entry], given: Entry, each: str) -> None:
    written = next(entry for entry in entries if entry.id == given.id)
    if (written.currency, written.amount) != (given.currency, given.amount):
        found, expected = (
            f"{spelled(entry.amount, entry.currency)} {entry.currency}"
            for entry in (written, given)
        )
        raise IdTaken(each, found, expected)
