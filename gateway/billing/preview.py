"""What past months would have cost under another plan."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.billing.accounts import Account
from gateway.billing.books import Rates
from gateway.billing.closing import Closer
from gateway.billing.money import spelled
from gateway.billing.periods import Month, Period
from gateway.billing.statement import (
    Amounts,
    Line,
    Prices,
    UnknownPlan,
    Used,
    statement,
)
from gateway.billing.terms import Term
from wherry.model.pricing import Price

MAX_MONTHS = 24
"""Most months that are looked back at."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A month's cost as it is and as it would be.

    Attributes:
        month: Which.
        now: Under the plans that there were, in smallest units by currency.
        then: Under the other plan.
        lines: Of ``then``.
    """

    month: Month
    now: dict[str, int]
    then: dict[str, int]
    lines: tuple[Line, ...]

    def document(self) -> dict[str, object]:
        """Return its JSON form; amounts are decimals in text."""
        return {
            "month": str(self.month),
            "now": {code: spelled(amount, code) for code, amount in sorted(self.now.items())},
            "then": {code: spelled(amount, code) for code, amount in sorted(self.then.items())},
            "lines": [
                {
                    "text": line.charge.text,
                    "quantity": line.charge.quantity,
                    "amount": spelled(line.charge.amount, line.currency),
                }
                for line in self.lines
            ],
        }


@dataclass(frozen=True, slots=True)
class Past:
    """A month as it was rated, or as it stands now.

    Attributes:
        month: Which.
        terms: Subscriptions.
        prices: By plan.
        used: Billable units.
    """

    month: Month
    terms: Sequence[Term]
    prices: Prices
    used: Amounts


def compared(past: Past, product: str, plan: str, price: Price | None) -> Compared:
    """Return what ``product`` cost in a month, and would have cost under ``plan`` at ``price``.

    Setup fees, the other plan's trial and what was used during trials are left out.
    """
    terms = [term for term in past.terms if term.product == product]
    used = {key: units for key, units in past.used.items() if key.product == product}
    now = _lasting(statement(past.month, terms, past.prices, used))
    moved: Counter[Used] = Counter()
    for key, units in used.items():
        moved[key._replace(plan=plan)] += units
    other = None if price is None else price.model_copy(update={"trial_days": 0})
    switched = [replace(term, plan=plan) for term in terms]
    then = _lasting(statement(past.month, switched, {plan: other}, moved))
    return Compared(past.month, _sums(now), _sums(then), tuple(then))


async def preview(
    closer: Closer, account: Account, product: str, plan: str, *, months: int, now_ns: int
) -> list[Compared]:
    """Return the last ``months`` (1 to `MAX_MONTHS`), oldest first; the last is the open one.

    Raises:
        UnknownPlan: No plan has that name.
        NoLongerKept: Usage of a month that was never closed is not kept any more.
    """
    rates = await closer.books.rates()
    if plan not in rates.plans:
        raise UnknownPlan(plan)
    price = rates.plans[plan].versions[-1].price
    month, found = Month.at(now_ns, account.zone), []
    for _ in range(months):
        past = await _past(closer, account, month, rates)
        found.append(compared(past, product, plan, price))
        month = month.before
    return found[::-1]


async def _past(closer: Closer, account: Account, month: Month, rates: Rates) -> Past:
    period = Period.of(month, account.zone)
    prices = rates.at(period)
    closed = await closer.books.closed(account.consumer, month)
    if closed is not None:
        known = {**prices, **closed.basis.prices}
        return Past(month, closed.basis.terms, known, dict(closed.basis.used))
    used = await closer.used(account, period, prices)
    return Past(month, account.terms, prices, used)


def _lasting(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.charge.kind != "setup"]


def _sums(lines: Sequence[Line]) -> dict[str, int]:
    added: Counter[str] = Counter()
    for line in lines:
        added[line.currency] += line.charge.amount
    return dict(added)
