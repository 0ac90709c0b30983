"""Numbers of invoices: without gaps, none given twice, whoever dies on the way.

The record named by a number is written if it is absent. Before a number is given, the invoice with
the one before is findable by consumer and month, so that no invoice gets a second number.
"""

from dataclasses import replace

from gateway.billing import accounts
from gateway.billing.accounts import issued_key, number_key
from gateway.billing.books import Books
from gateway.billing.invoices import Invoice
from wherry.store import Conflict, Store

_LAST = "billing/last"


class Numbers:
    """Gives invoices their numbers.

    Args:
        store: Holds them.
        books: Reads invoices of the same Store.
    """

    def __init__(self, store: Store, books: Books) -> None:
        self._store, self._books = store, books

    async def given(self, draft: Invoice) -> Invoice:
        """Return ``draft`` with its number; again, with the same one."""
        while True:
            last = await self._last()
            issued = await self._store.get(issued_key(draft))
            if issued is not None:
                return await self._books.invoice(int(issued.body))
            invoice = replace(draft, number=last + 1)
            try:
                await self._store.put(number_key(invoice.number), accounts.body(invoice), expect=0)
            except Conflict:
                continue
            await self._last()
            return invoice

    async def _last(self) -> int:
        """Return the last number, after each invoice up to it can be found."""
        hint = await self._store.get(_LAST)
        number = known = int(hint.body) if hint else 0
        while record := await self._store.get(number_key(number + 1)):
            number += 1
            await self._index(accounts.invoice(record))
        if number != known:
            await self._store.put(_LAST, b"%d" % number)
        return number

    async def _index(self, invoice: Invoice) -> None:
        try:
            await self._store.put(issued_key(invoice), b"%d" % invoice.number, expect=0)
        except Conflict:
            return
