"""What the portal asks of the rest of the gateway, and in which shape."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wherry.errors import WherryError

Step = Literal["minute", "hour"]


class Unwell(WherryError):
    """A part cannot do what it was asked; the message is for the developer."""


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key as its owner sees it later: without its secret.

    Attributes:
        prefix: Its public name.
        app: Of the consumer.
        title: What its owner calls it.
        created_ns: Unix nanoseconds.
        expires_ns: Unix nanoseconds; None is never.
        revoked_ns: Unix nanoseconds; None is not.
        last_used_ns: Unix nanoseconds, to the minute; None is never.
    """

    prefix: str
    app: str
    title: str
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None
    last_used_ns: int | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made.

    Attributes:
        consumer: Whose it will be.
        app: Of theirs.
        title: What they call it.
        lasts_days: None is without end.
    """

    consumer: str
    app: str
    title: str
    lasts_days: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about usage.

    Attributes:
        consumer: Whose.
        product: Of which product.
        meter: What is counted.
        begins_ns: Unix nanoseconds; a whole minute.
        ends_ns: Unix nanoseconds, first that does not count; a whole minute.
        step: Width of each point.
    """

    consumer: str
    product: str
    meter: str
    begins_ns: int
    ends_ns: int
    step: Step


@dataclass(frozen=True, slots=True)
class Point:
    """What was used in one step.

    Attributes:
        begins_ns: Unix nanoseconds when the step begins.
        amount: Units of the meter.
    """

    begins_ns: int
    amount: int


@dataclass(frozen=True, slots=True)
class ShownInvoice:
    """A line in the list of invoices.

    Attributes:
        number: Of the invoice.
        begins: First day of its period, ``YYYY-MM-DD``.
        ends: First day after its period.
        total: What is due, with the currency's minor units.
        currency: ISO 4217 code.
    """

    number: str
    begins: str
    ends: str
    total: str
    currency: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What a product cost in a month, and would have cost under another plan.

    Attributes:
        month: ``YYYY-MM``.
        now: As it is, like ``12.30 EUR`` for each currency.
        then: As it would have been.
    """

    month: str
    now: Sequence[str]
    then: Sequence[str]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the portal needs done. Any of it raises `Unwell` when it cannot be done.

    Attributes:
        write: Keep a document (Consumer or Subscription); with True only a new one. Raises
            `Unwell` when the name is taken or the catalogue would not hold together.
        remove: Forget the document of a kind and name.
        keys: The keys of a consumer, newest first.
        make_key: Make a key; return its text, kept nowhere.
        rotate_key: Make the second key beside a consumer's ``prefix``, which ends so many days
            from now, or not; return its text.
        revoke_key: Stop accepting a consumer's key ``prefix``.
        used: Units in all, exact to the minute.
        series: Points in order of time.
        compare: Past months of ``(consumer, product)`` under another plan, oldest first.
        credit: What is left of a consumer's credit, like ``12.30 EUR`` for each currency.
        invoices: Of a consumer, newest first.
        invoice_page: HTML of ``(consumer, number)``; None when they have no such invoice.
        invoice_pdf: PDF of ``(consumer, number)``; None when they have no such invoice.
    """

    write: Callable[[Mapping[str, object], bool], Awaitable[None]]
    remove: Callable[[str, str], Awaitable[None]]
    keys: Callable[[str], Awaitable[Sequence[ShownKey]]]
    make_key: Callable[[NewKey], Awaitable[str]]
    rotate_key: Callable[[str, str, int | None], Awaitable[str]]
    revoke_key: Callable[[str, str], Awaitable[None]]
    used: Callable[[Asked], Awaitable[int]]
    series: Callable[[Asked], Awaitable[Sequence[Point]]]
    compare: Callable[[str, str, str], Awaitable[Sequence[Compared]]]
    credit: Callable[[str], Awaitable[Sequence[str]]]
    invoices: Callable[[str], Awaitable[Sequence[ShownInvoice]]]
    invoice_page: Callable[[str, str], Awaitable[str | None]]
    invoice_pdf: Callable[[str, str], Awaitable[bytes | None]]
