"""Invoices: what they say, and their JSON form."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from gateway.billing.money import spelled
from gateway.billing.periods import Month, Period
from gateway.billing.rating import shared
from gateway.billing.statement import Line, Prices, What


@dataclass(frozen=True, slots=True)
class Party:
    """A party's part of what an invoice earns.

    Attributes:
        product: Whose earnings.
        plan: Under which plan.
        party: Who gets it.
        amount: In the currency's smallest unit.
    """

    product: str
    plan: str
    party: str
    amount: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a consumer owes for a period, in one currency. It never changes.

    Attributes:
        number: From 1, without gaps; 0 while it is a draft.
        consumer: Who owes it.
        title: Of the consumer, for people.
        email: Of the consumer, or None.
        month: Name of the period.
        zone: See `gateway.billing.periods.Period`.
        begins_ns: See `gateway.billing.periods.Period`.
        ends_ns: See `gateway.billing.periods.Period`.
        issued: Day when the period was closed.
        currency: Of every amount.
        lines: What is owed.
        credit: What of it credit has paid; below 0 when the invoice gave credit.
        parties: Whom the owner owes a part; not the consumer's business.
    """

    number: int
    consumer: str
    title: str
    email: str | None
    month: Month
    zone: str
    begins_ns: int
    ends_ns: int
    issued: date
    currency: str
    lines: tuple[Line, ...]
    credit: int = 0
    parties: tuple[Party, ...] = ()

    @property
    def name(self) -> str:
        """The number as it is written."""
        return f"{self.number:08d}" if self.number else "draft"

    @property
    def total(self) -> int:
        """Sum of the lines, in smallest units."""
        return sum(line.charge.amount for line in self.lines)

    @property
    def prepaid(self) -> int:
        """Sum of the lines that draw on credit."""
        return sum(line.charge.amount for line in self.lines if line.prepaid)

    @property
    def due(self) -> int:
        """What is left to pay."""
        return self.total - self.credit

    @property
    def days(self) -> tuple[date, date]:
        """First and last day."""
        return self.month.first, date(self.month.year, self.month.number, self.month.days)

    def money(self, amount: int) -> str:
        """Return an amount of this invoice as a decimal."""
        return spelled(amount, self.currency)

    def shown(self, amount: int) -> str:
        """Return an amount of this invoice as people read it: ``1,234.50``."""
        whole, point, places = spelled(abs(amount), self.currency).partition(".")
        return f"{'-' if amount < 0 else ''}{int(whole):,}{point}{places}"

    def document(self, *, parties: bool = False) -> dict[str, object]:
        """Return its JSON form; amounts are decimals in text.

        Args:
            parties: Whether to say whom the owner owes a part.
        """
        first, last = self.days
        document: dict[str, object] = {
            "number": self.name,
            "issued": self.issued.isoformat(),
            "consumer": {"name": self.consumer, "title": self.title, "email": self.email},
            "period": {
                "month": str(self.month),
                "first": first.isoformat(),
                "last": last.isoformat(),
                "timezone": self.zone,
            },
            "currency": self.currency,
            "lines": [self._line(line) for line in self.lines],
            "total": self.money(self.total),
            "credit": self.money(self.credit),
            "due": self.money(self.due),
        }
        if parties:
            document["parties"] = [
                {
                    "product": each.product,
                    "plan": each.plan,
                    "party": each.party,
                    "amount": self.money(each.amount),
                }
                for each in self.parties
            ]
        return document

    def _line(self, line: Line) -> dict[str, object]:
        charge = line.charge
        return {
            "kind": charge.kind,
            "product": line.product,
            "app": line.app or None,
            "plan": line.plan,
            "text": charge.text,
            "meter": charge.meter,
            "quantity": charge.quantity,
            "unit": charge.unit,
            "amount": self.money(charge.amount),
        }


@dataclass(frozen=True, slots=True)
class Payer:
    """Who an invoice goes to.

    Attributes:
        name: Of the consumer.
        title: Of the consumer, for people.
        email: Or None.
    """

    name: str
    title: str
    email: str | None


def drafted(
    payer: Payer, period: Period, lines: Sequence[Line], prices: Prices, issued: date
) -> list[Invoice]:
    """Return a draft for each currency of ``lines``, none when there are no lines."""
    by_currency: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_currency[line.currency].append(line)
    return [
        Invoice(
            number=0,
            consumer=payer.name,
            title=payer.title,
            email=payer.email,
            month=period.month,
            zone=period.zone,
            begins_ns=period.begins_ns,
            ends_ns=period.ends_ns,
            issued=issued,
            currency=currency,
            lines=tuple(found),
            parties=tuple(_parties(found, prices)),
        )
        for currency, found in sorted(by_currency.items())
    ]


def _parties(lines: Sequence[Line], prices: Prices) -> Iterator[Party]:
    earned: dict[What, int] = defaultdict(int)
    for line in lines:
        earned[line.what] += line.charge.amount
    for (product, _, plan), amount in sorted(earned.items()):
        price = prices.get(plan)
        if price is not None and amount:
            for party, part in shared(price.shares, amount):
                yield Party(product, plan, party, part)
