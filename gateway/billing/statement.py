"""A consumer's month: every charge of every subscription, and what late usage adds to it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from gateway.billing.periods import Days, Month
from gateway.billing.rating import Charge, rate
from gateway.billing.terms import Term, days, trial_end
from wherry.errors import WherryError
from wherry.model.pricing import Price

What = tuple[str, str, str]
"""Product, app (empty: all of the consumer's) and plan."""

Prices = Mapping[str, Price | None]
"""By plan; None is a plan that costs nothing."""


class Used(NamedTuple):
    """What was counted."""

    app: str
    product: str
    plan: str
    meter: str


Amounts = Mapping[Used, int]
"""Billable units."""


class UnknownPlan(WherryError):
    """Usage or a subscription names a plan whose price nobody knows."""

    def __init__(self, plan: str) -> None:
        super().__init__(
            f"plan {plan!r}: no price known, expected a plan that is or was configured"
        )
        self.plan = plan


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice.

    Attributes:
        product: What was used.
        app: The only app that the subscription was for; empty is all.
        plan: At which price.
        currency: Of the amount.
        charge: What it costs.
        prepaid: Whether the plan draws on credit.
    """

    product: str
    app: str
    plan: str
    currency: str
    charge: Charge
    prepaid: bool = False

    @property
    def what(self) -> What:
        """Which subscription it belongs to."""
        return self.product, self.app, self.plan


@dataclass(frozen=True, slots=True)
class Part:
    """A month, or what of it was under one subscription.

    Attributes:
        price: Of the plan.
        days: That have a fee.
        usage: Units by meter.
        allowance: See `gateway.billing.rating.rate`.
    """

    price: Price
    days: Days
    usage: Mapping[str, int]
    allowance: Fraction


def statement(
    month: Month,
    terms: Sequence[Term],
    prices: Prices,
    used: Amounts,
    setups: Collection[tuple[str, str]] = (),
) -> list[Line]:
    """Return the lines of ``month``.

    Where plans of a product divide the month, each is rated by itself, with its share (by days)
    of included units and tiers. Usage counts under the plan that it was let through by.

    Args:
        month: Which.
        terms: Subscriptions, also those that ended.
        prices: Of every plan in ``terms`` and ``used``.
        used: Without what fell into a trial.
        setups: Product and plan of each setup fee that was charged before.

    Raises:
        UnknownPlan: A plan has no entry in ``prices``.
    """
    lines: list[Line] = []
    charged = set(setups)
    for what, part in sorted(divided(month, terms, prices, used).items(), key=lambda item: item[0]):
        fresh = (what[0], what[2]) not in charged
        charged.add((what[0], what[2]))
        charges = rate(
            part.price, part.usage, days=part.days, allowance=part.allowance, setup=fresh
        )
        lines += (Line(*what, part.price.currency, each, part.price.prepaid) for each in charges)
    return lines


def divided(
    month: Month, terms: Sequence[Term], prices: Prices, used: Amounts
) -> Mapping[What, "Part"]:
    """Return the parts of ``month`` under each subscription that costs something.

    Raises:
        UnknownPlan: A plan has no entry in ``prices``.
    """
    usage = by_subscription(terms, used)
    found = {what: _days(terms, what, month, prices) for what in {t.what for t in terms} | {*usage}}
    parts = {}
    for what, counted in found.items():
        price = _price(prices, what[2])
        if price is not None and (counted.count or usage.get(what)):
            days = replace(counted, origin=_origin(found, what))
            parts[what] = Part(price, days, usage.get(what, {}), _allowance(found, what))
    return parts


def corrections(
    month: Month,
    before: Sequence[Line],
    after: Sequence[Line],
    late: Mapping[What, Mapping[str, int]],
) -> Iterator[Line]:
    """Yield the difference that late usage makes, one line for each subscription.

    Args:
        month: Whose usage came late.
        before: What it was billed as, earlier corrections included.
        after: What it comes to now.
        late: Units that came late, by meter.
    """
    total = {line.what: line for line in [*before, *after]}
    for what, line in sorted(total.items(), key=lambda item: item[0]):
        units = ", ".join(f"{n:,} {meter}" for meter, n in sorted(late.get(what, {}).items()))
        if not units:
            continue
        due = _sum(after, what) - _sum(before, what)
        charge = Charge("correction", f"{month.title}, recorded late: {units}", due)
        yield Line(*what, line.currency, charge, line.prepaid)


def _sum(lines: Sequence[Line], what: What) -> int:
    return sum(line.charge.amount for line in lines if line.what == what)


def _price(prices: Prices, plan: str) -> Price | None:
    try:
        return prices[plan]
    except KeyError:
        raise UnknownPlan(plan) from None


def by_subscription(terms: Sequence[Term], used: Amounts) -> Mapping[What, Mapping[str, int]]:
    """Add usage up by meter for the app's own subscription, else for the one of all apps."""
    own = {term.what for term in terms if term.app}
    added: dict[What, Counter[str]] = defaultdict(Counter)
    for key, amount in used.items():
        what = (key.product, key.app, key.plan)
        added[what if what in own else (key.product, "", key.plan)][key.meter] += amount
    return added


def _days(terms: Sequence[Term], what: What, month: Month, prices: Prices) -> Days:
    paid_from = trial_end(terms, what[0], _price(prices, what[2]))
    return days(terms, what, month, paid_from)


def _origin(found: Mapping[What, Days], what: What) -> int:
    """Return the first day that any plan of the product has."""
    beside = (days.spans[0][0] for each, days in found.items() if _alike(each, what) and days.spans)
    return min(beside, default=0)


def _alike(one: What, other: What) -> bool:
    return one[:2] == other[:2]


def _allowance(found: Mapping[What, Days], what: What) -> Fraction:
    """Return the share of ``what`` in the days that all plans of its product have together.

    A plan without a day of its own, left on the month's first, counts as if it had one.
    """
    beside = [days.count for each, days in found.items() if _alike(each, what)]
    mine = max(1, found[what].count)
    return min(Fraction(1), Fraction(mine, max(1, sum(beside))))
