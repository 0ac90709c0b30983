"""What billing keeps of each consumer and plan, so that it depends on no configuration later."""

from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from gateway.billing.invoices import Invoice
from gateway.billing.periods import Month, Period
from gateway.billing.statement import Used
from gateway.billing.terms import Term
from wherry.errors import WherryError
from wherry.model.pricing import Price
from wherry.store import Record

ACCOUNTS = "billing/account/"
PRICES = "billing/price/"
CLOSED = "billing/closed/"
INVOICES = "billing/invoice/"
ISSUED = "billing/issued/"

MAX_VERSIONS = 100
"""Most prices of one plan that are kept."""


class BadBilling(WherryError):
    """A record of billing is unreadable."""

    def __init__(self, key: str) -> None:
        super().__init__(f"record {key!r}: unreadable, expected what this version of billing wrote")
        self.key = key


@dataclass(frozen=True, slots=True)
class Account:
    """A consumer as billing knows it.

    Attributes:
        consumer: Its name.
        title: For people.
        email: Or None.
        zone: Where its days begin.
        first: Month in which it was seen first: the first that is closed by itself.
        through_ns: Where the open period begins: the last one's end, or the beginning of `first`
            where the consumer was then.
        terms: Every subscription there is or was.
        setups: Product and plan of each setup fee that was charged.
        closed: The last month that is closed, or None.
    """

    consumer: str
    title: str
    email: str | None
    zone: str
    first: Month
    through_ns: int
    terms: tuple[Term, ...] = ()
    setups: tuple[tuple[str, str], ...] = ()
    closed: Month | None = None

    def period(self, month: Month | None = None) -> Period:
        """Return the open period; while none is closed, ``month`` may be one before the first."""
        if self.closed is None and month is not None and month < self.first:
            return Period.of(month, self.zone)
        following = self.first if self.closed is None else self.closed.after
        return Period.of(following, self.zone, after_ns=self.through_ns)


Counted = tuple[tuple[Used, int], ...]
"""Billable units, in a form that JSON has."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a period was rated by, so that late usage can be rated the same way.

    Attributes:
        terms: Subscriptions as they were.
        setups: Setup fees that were charged before.
        prices: Of every plan that occurred.
        used: Units as they were counted then.
    """

    terms: tuple[Term, ...]
    setups: tuple[tuple[str, str], ...]
    prices: dict[str, Price | None]
    used: Counted


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed period: written once, never changed.

    Attributes:
        consumer: Whose.
        period: Which.
        at_ns: Unix nanoseconds when it was closed.
        invoices: As they are issued, but for the number; one for each currency.
        basis: What they were made from.
        late: Units of earlier months as they are counted now, where late usage was billed here.
    """

    consumer: str
    period: Period
    at_ns: int
    invoices: tuple[Invoice, ...]
    basis: Basis
    late: dict[str, Counted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A price and when it was seen first.

    Attributes:
        since_ns: Unix nanoseconds.
        price: None costs nothing.
    """

    since_ns: int
    price: Price | None


@dataclass(frozen=True, slots=True)
class Known:
    """A plan as billing knows it.

    Attributes:
        versions: Its prices, the newest last; the oldest of many are forgotten.
    """

    versions: tuple[Version, ...]

    def at(self, period: Period) -> Price | None:
        """Return the price in ``period``: that which stood when it began, as none reaches back.

        A plan that came later has the newest of the period, so that a mistake in a new plan can
        be mended; for a period before it, its first.
        """
        stood = [each.price for each in self.versions if each.since_ns <= period.begins_ns]
        came = [each.price for each in self.versions if each.since_ns < period.ends_ns]
        return stood[-1] if stood else came[-1] if came else self.versions[0].price

    @property
    def prepaid(self) -> bool:
        """Whether any of its prices is paid ahead."""
        return any(each.price is not None and each.price.prepaid for each in self.versions)

    def changed(self, price: Price | None, now_ns: int) -> "Known":
        """Return the plan with ``price`` from now on."""
        if self.versions and self.versions[-1].price == price:
            return self
        return Known((*self.versions, Version(now_ns, price))[-MAX_VERSIONS:])


_ACCOUNT = TypeAdapter(Account)
_CLOSED = TypeAdapter(Closed)
_KNOWN = TypeAdapter(Known)
_INVOICE = TypeAdapter(Invoice)


def account(record: Record) -> Account:
    """Read an account.

    Raises:
        BadBilling: It is unreadable.
    """
    return _read(_ACCOUNT, record)


def closed(record: Record) -> Closed:
    """Read a closed period.

    Raises:
        BadBilling: It is unreadable.
    """
    return _read(_CLOSED, record)


def invoice(record: Record) -> Invoice:
    """Read an invoice.

    Raises:
        BadBilling: It is unreadable.
    """
    return _read(_INVOICE, record)


def known(record: Record) -> Known:
    """Read a plan.

    Raises:
        BadBilling: It is unreadable.
    """
    return _read(_KNOWN, record)


def body(value: Account | Closed | Known | Invoice) -> bytes:
    """Return what is stored of ``value``."""
    match value:
        case Account():
            return _ACCOUNT.dump_json(value)
        case Closed():
            return _CLOSED.dump_json(value)
        case Known():
            return _KNOWN.dump_json(value)
        case Invoice():
            return _INVOICE.dump_json(value)


def key_of(value: Account | Closed) -> str:
    """Return the key that ``value`` is stored under."""
    match value:
        case Account():
            return ACCOUNTS + value.consumer
        case Closed():
            return f"{CLOSED}{value.consumer}/{value.period.month}"


def number_key(number: int) -> str:
    """Return the key of the invoice with ``number``."""
    return f"{INVOICES}{number:08d}"


def issued_key(invoice: Invoice) -> str:
    """Return the key under which an invoice's number is found by whom and what it is for."""
    return f"{ISSUED}{invoice.consumer}/{invoice.month}/{invoice.currency}"


_T = TypeVar("_T", Account, Closed, Known, Invoice)


def _read(adapter: TypeAdapter[_T], record: Record) -> _T:
    try:
        return adapter.validate_json(record.body)
    except ValidationError:
        raise BadBilling(record.key) from None
