"""What a plan's price makes of a month's usage: exact, and rounded once for each line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from gateway.billing.money import parts, rounded, whole
from gateway.billing.periods import Days
from wherry.errors import WherryError
from wherry.model.pricing import Price, Share, Tier, UsagePrice

Kind = Literal["setup", "recurring", "usage", "minimum", "correction"]

WHOLE = Days(((0, 1),), 1)
"""All of a month, for whoever does not count days."""

_ALL = Fraction(1)

_Part = tuple[str, int, str, Fraction]
"""What is counted, how many, at which price as it is written, and what that makes exactly."""


class NegativeUsage(WherryError):
    """Less than nothing was used."""

    def __init__(self, meter: str, amount: int) -> None:
        super().__init__(f"usage of {meter!r}: {amount}, expected at least 0")
        self.meter, self.amount = meter, amount


@dataclass(frozen=True, slots=True)
class Charge:
    """One thing that costs.

    Attributes:
        kind: What it is for.
        text: The same, for people.
        amount: In the currency's smallest unit; below 0 gives back.
        meter: What was counted; None when nothing was.
        quantity: How many units; None when nothing was counted.
        unit: Price of one as the plan writes it; None when there is none.
    """

    kind: Kind
    text: str
    amount: int
    meter: str | None = None
    quantity: int | None = None
    unit: str | None = None


def rate(
    price: Price,
    usage: Mapping[str, int],
    *,
    days: Days = WHOLE,
    allowance: Fraction = _ALL,
    setup: bool = False,
) -> list[Charge]:
    """Return what one month under a plan costs.

    Args:
        price: Of the plan.
        usage: Units by meter; meters without a price cost nothing.
        days: Those of the month that have a fee; the minimum goes by their share.
        allowance: Part of what the price grants for a month that is meant here (0 to 1): where
            two plans divide a month, each gives its share of included units and of tiers.
        setup: Whether the setup fee is due.

    Raises:
        NegativeUsage: An amount is below 0.
    """
    for meter, amount in usage.items():
        if amount < 0:
            raise NegativeUsage(meter, amount)
    once = [Charge("setup", "Setup", _minor(price, price.setup))] if setup else []
    charges = list(_recurring(price, days))
    for each in price.usage:
        units = usage.get(each.meter, 0)
        charges += _metered(each, units, price.currency, allowance)
    missing = whole(Fraction(_minor(price, price.minimum)) * days.share)
    missing -= sum(charge.amount for charge in charges)
    if missing > 0:
        charges.append(Charge("minimum", f"Up to the minimum of {price.minimum}", missing))
    return [charge for charge in once if charge.amount] + charges


def worth(price: Price, usage: Mapping[str, int], *, allowance: Fraction = _ALL) -> Fraction:
    """Return what ``usage`` costs before anything is rounded, without fees and minimum."""
    return sum(
        (
            amount
            for each in price.usage
            for *_, amount in _counted(each, usage.get(each.meter, 0), allowance)
        ),
        Fraction(0),
    )


def shared(shares: Sequence[Share], amount: int) -> list[tuple[str, int]]:
    """Return each party's part of ``amount``, in smallest units; what is left is the owner's.

    The parts never exceed the amount, however it rounds.
    """
    given, before, found = Fraction(0), 0, []
    for share in shares:
        given += Fraction(share.percent) / 100
        upto = whole(amount * given)
        found.append((share.party, upto - before))
        before = upto
    return found


def _minor(price: Price, text: str) -> int:
    return rounded(Fraction(text), price.currency)


def _recurring(price: Price, days: Days) -> Iterator[Charge]:
    if price.recurring is None or not days.count:
        return
    amount = Fraction(price.recurring.amount)
    if not price.recurring.prorate or days.count == days.of:
        due, text = rounded(amount, price.currency), "Monthly fee"
    else:
        due = sum(parts(amount, cuts, price.currency)[0] for cuts in days.measured)
        text = f"Monthly fee, {days.count} of {days.of} days"
    if due:
        yield Charge("recurring", text, due, unit=price.recurring.amount)


def _metered(price: UsagePrice, units: int, currency: str, allowance: Fraction) -> Iterator[Charge]:
    for text, quantity, unit, amount in _counted(price, units, allowance):
        shown = f"{price.meter}, {text}" if text else price.meter
        yield Charge("usage", shown, rounded(amount, currency), price.meter, quantity, unit)


def _counted(price: UsagePrice, units: int, allowance: Fraction) -> Iterator[_Part]:
    """Yield what ``units`` cost; those of the month that are free stand in front of all tiers."""
    free = min(units, ceil(price.included * allowance))
    if free:
        yield "included", free, "0", Fraction(0)
    if units > free:
        yield from _priced(price, free, units, allowance)


def _priced(price: UsagePrice, free: int, units: int, allowance: Fraction) -> Iterator[_Part]:
    rest = units - free
    match price.model:
        case "flat":
            amount = price.amount or "0"
            yield f"flat for {rest:,}", 1, amount, Fraction(amount)
        case "perUnit":
            unit = price.unit or "0"
            yield "", rest, unit, rest * Fraction(unit)
        case "graduated":
            yield from _graduated(price.tiers, free, units, allowance)
        case "volume":
            tier = next(t for t in price.tiers if units <= _bound(t, allowance, units))
            yield from _tier(tier, f"volume of {units:,}", rest)
        case "bundle":
            yield from _bundles(price, rest)


def _graduated(
    tiers: Sequence[Tier], free: int, units: int, allowance: Fraction
) -> Iterator[_Part]:
    begin = 0
    for tier in tiers:
        end = min(units, _bound(tier, allowance, units))
        inside = end - max(begin, free)
        if inside > 0:
            yield from _tier(tier, f"units {max(begin, free) + 1:,} to {end:,}", inside)
        begin = max(begin, end)


def _bound(tier: Tier, allowance: Fraction, units: int) -> int:
    return units if tier.up_to is None else ceil(tier.up_to * allowance)


def _tier(tier: Tier, text: str, units: int) -> Iterator[_Part]:
    yield text, units, tier.unit, units * Fraction(tier.unit)
    if Fraction(tier.flat):
        yield f"{text}, tier fee", 1, tier.flat, Fraction(tier.flat)


def _bundles(price: UsagePrice, rest: int) -> Iterator[_Part]:
    size, amount = price.size or 1, price.amount or "0"
    if price.overage is None:
        bundles = -(-rest // size)
        yield f"bundles of {size:,}", bundles, amount, bundles * Fraction(amount)
        return
    yield f"bundle of {size:,}", 1, amount, Fraction(amount)
    if rest > size:
        beyond = rest - size
        yield "beyond the bundle", beyond, price.overage, beyond * Fraction(price.overage)
