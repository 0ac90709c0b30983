"""What stands behind the portal: the keys, meters and invoices of the gateway itself."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from gateway.authn.keydesk import KeyDesk
from gateway.authn.owned import keys_of
from gateway.authn.uses import last_used
from gateway.billing.books import MAX_PAGE, Books, UnknownAccount, UnknownInvoice
from gateway.billing.closing import Closer
from gateway.billing.invoices import Invoice
from gateway.billing.ledger import Ledger
from gateway.billing.money import spelled
from gateway.billing.page import page
from gateway.billing.pdf import pdf
from gateway.billing.preview import preview
from gateway.billing.source import Metered
from gateway.keyring import Grant
from gateway.metering import rollup
from gateway.metering.rollup import Level
from gateway.portal.parts import (
    Asked,
    Compared,
    NewKey,
    Parts,
    Point,
    ShownInvoice,
    ShownKey,
    Unwell,
)
from wherry.clock import Clock
from wherry.config.watch import Worlds
from wherry.errors import ConfigError, WherryError
from wherry.model.resource import Resource
from wherry.store import Conflict, Store, StoreFailed

_DAY = 86_400 * 10**9
_PATIENCE = 5.0
_MONTHS = 6
_STEPS = {"minute": Level.MINUTE, "hour": Level.HOUR}


class Catalogue(Protocol):
    """Where Consumers and Subscriptions are written; `wherry.resources.Resources` is one."""

    async def put(
        self, document: Mapping[str, object], *, expect: int | None = None, actor: str
    ) -> object:
        """Write one resource; with ``expect`` 0 only a new one."""
        ...

    async def delete(
        self, kind: str, name: str, *, expect: int | None = None, actor: str
    ) -> object:
        """Remove one resource."""
        ...


def parts(
    *, store: Store, worlds: Worlds, resources: Catalogue, pepper: bytes, clock: Clock
) -> Parts:
    """Return what the portal needs done, done by the gateway.

    Args:
        store: Holds keys, usage and invoices.
        worlds: Follows what ``resources`` writes.
        resources: Where Consumers and Subscriptions are written.
        pepper: See `gateway.pepper`.
        clock: Where the time is read.
    """
    documents = _Documents(worlds, resources)
    desk = _Keys(store, pepper, clock)
    books = _Books(store, clock)
    return Parts(
        write=documents.write,
        remove=documents.remove,
        keys=desk.keys,
        make_key=desk.make,
        rotate_key=desk.rotate,
        revoke_key=desk.revoke,
        used=_Meters(store).used,
        series=_Meters(store).series,
        compare=books.compare,
        credit=books.credit,
        invoices=books.invoices,
        invoice_page=books.page,
        invoice_pdf=books.pdf,
    )


@contextmanager
def _told() -> Iterator[None]:
    """Tell the developer what an operator would be told, without places in files."""
    try:
        yield
    except ConfigError as error:
        said = "; ".join(f"{each.found}, expected {each.expected}" for each in error.problems)
        raise Unwell(f"This cannot be done: {said}.") from error
    except UnknownAccount as error:
        raise Unwell("There is nothing to bill yet: try again in a moment.") from error
    except (StoreFailed, Conflict) as error:
        raise Unwell("This cannot be done at the moment: try again soon.") from error
    except WherryError as error:
        raise Unwell(f"This cannot be done: {error}.") from error


@dataclass(frozen=True, slots=True)
class _Documents:
    worlds: Worlds
    resources: Catalogue

    async def write(self, document: Mapping[str, object], new: bool) -> None:  # noqa: FBT001
        kind, name, owner = _identity(document)
        before = self._held(kind, name)
        with _told():
            await self.resources.put(document, expect=0 if new else None, actor=f"portal:{owner}")
        await self._until(lambda: self._held(kind, name) is not before)

    async def remove(self, kind: str, name: str) -> None:
        with _told():
            await self.resources.delete(kind, name, actor="portal")
        await self._until(lambda: self._held(kind, name) is None)

    def _held(self, kind: str, name: str) -> Resource | None:
        world = self.worlds.current
        return (world.consumers if kind == "Consumer" else world.subscriptions).get(name)

    async def _until(self, seen: Callable[[], bool]) -> None:
        """Return when the configuration that serves has what was written, or is late with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                async with aclosing(self.worlds.follow()) as worlds:
                    async for _ in worlds:
                        if seen():
                            return


@dataclass(frozen=True, slots=True)
class _Keys:
    store: Store
    pepper: bytes
    clock: Clock

    async def keys(self, consumer: str) -> Sequence[ShownKey]:
        with _told():
            found, used = await keys_of(self.store, consumer), await last_used(self.store)
        return [
            ShownKey(
                each.prefix,
                each.app,
                each.title,
                each.created_ns,
                each.expires_ns,
                each.revoked_ns,
                used.get(each.prefix),
            )
            for each in reversed(found)
        ]

    async def make(self, new: NewKey) -> str:
        now = self.clock.unix_ns()
        expires = None if new.lasts_days is None else now + new.lasts_days * _DAY
        grant = Grant(app=new.app, title=new.title, expires_ns=expires)
        with _told():
            _, text = await KeyDesk(self.store, self.clock).create(
                self.pepper, new.consumer, grant, actor=f"portal:{new.consumer}"
            )
        return text

    async def rotate(self, consumer: str, prefix: str, days: int | None) -> str:
        now = self.clock.unix_ns()
        ends = None if days is None else now + days * _DAY
        with _told():
            _, text = await KeyDesk(self.store, self.clock).rotate(
                self.pepper, prefix, ends_ns=ends, actor=f"portal:{consumer}"
            )
        return text

    async def revoke(self, consumer: str, prefix: str) -> None:
        with _told():
            desk = KeyDesk(self.store, self.clock)
            await desk.revoke(prefix, actor=f"portal:{consumer}")


@dataclass(frozen=True, slots=True)
class _Meters:
    store: Store

    async def used(self, asked: Asked) -> int:
        with _told():
            found = await rollup.used(
                self.store,
                consumer=asked.consumer,
                product=asked.product,
                begins_ns=asked.begins_ns,
                ends_ns=asked.ends_ns,
            )
        return sum(each.amount for key, each in found.items() if key.meter == asked.meter)

    async def series(self, asked: Asked) -> Sequence[Point]:
        with _told():
            found = await rollup.series(
                self.store,
                consumer=asked.consumer,
                product=asked.product,
                meter=asked.meter,
                begins_ns=asked.begins_ns,
                ends_ns=asked.ends_ns,
                step=_STEPS[asked.step],
            )
        return [Point(at_ns, each.amount) for at_ns, each in found]


@dataclass(frozen=True, slots=True)
class _Books:
    store: Store
    clock: Clock

    async def compare(self, consumer: str, product: str, plan: str) -> Sequence[Compared]:
        closer = Closer(self.store, Metered(self.store), self.clock)
        with _told():
            account, _ = await closer.books.account(consumer)
            found = await preview(
                closer, account, product, plan, months=_MONTHS, now_ns=self.clock.unix_ns()
            )
        return [Compared(str(each.month), _money(each.now), _money(each.then)) for each in found]

    async def credit(self, consumer: str) -> Sequence[str]:
        with _told():
            found = await Ledger(self.store).balances(consumer)
        return _money(found)

    async def invoices(self, consumer: str) -> Sequence[ShownInvoice]:
        with _told():
            found = await Books(self.store).invoices(consumer, limit=MAX_PAGE)
        return [
            ShownInvoice(
                each.name,
                each.days[0].isoformat(),
                each.days[1].isoformat(),
                each.money(each.due),
                each.currency,
            )
            for each in reversed(found)
        ]

    async def page(self, consumer: str, number: str) -> str | None:
        invoice = await self._own(consumer, number)
        return None if invoice is None else page(invoice)

    async def pdf(self, consumer: str, number: str) -> bytes | None:
        invoice = await self._own(consumer, number)
        return None if invoice is None else await asyncio.to_thread(pdf, invoice)

    async def _own(self, consumer: str, number: str) -> Invoice | None:
        """Return an invoice if it is theirs; others' do not exist for them."""
        if not (number.isascii() and number.isdigit()):
            return None
        try:
            with _told():
                invoice = await Books(self.store).invoice(int(number))
        except Unwell as error:
            if isinstance(error.__cause__, UnknownInvoice):
                return None
            raise
        return invoice if invoice.consumer == consumer else None


def _money(amounts: Mapping[str, int]) -> list[str]:
    return [f"{spelled(amount, currency)} {currency}" for currency, amount in amounts.items()]


def _identity(document: Mapping[str, object]) -> tuple[str, str, str]:
    """Return kind and name of a document, and the consumer that it belongs to."""
    match document:
        case {"kind": "Consumer", "metadata": {"name": str(name)}}:
            return "Consumer", name, name
        case {
            "kind": "Subscription",
            "metadata": {"name": str(name)},
            "spec": {"consumer": str(owner)},
        }:
            return "Subscription", name, owner
        case _:
            raise Unwell("This document is neither a consumer nor a subscription.")
