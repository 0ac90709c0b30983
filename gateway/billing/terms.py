"""Who was subscribed to what, and from when to when: the history that fees go by.

The configuration says only what is subscribed now. A subscription that leaves it, because its
plan was switched or it was given up, ends here on that day and stays in the history.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from gateway.billing.periods import Days, Month
from wherry.model.pricing import Price

_FAR = date(2200, 1, 1)
"""No day that billing reckons with is later."""


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """A time under a plan.

    Attributes:
        product: What is subscribed to.
        app: The only app that is; empty is all of the consumer's.
        plan: At which price.
        begins: First day.
        ends: First day that is no longer part of it; None is open.
        stands: Whether the configuration has it still.
        written: First day as the configuration writes it; None is not said.
    """

    product: str
    app: str
    plan: str
    begins: date
    ends: date | None = None
    stands: bool = True
    written: date | None = None

    @property
    def what(self) -> tuple[str, str, str]:
        """Product, app and plan: what tells one subscription from another."""
        return self.product, self.app, self.plan


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription as the configuration has it now.

    Attributes:
        product: See `Term`.
        app: See `Term`.
        plan: See `Term`.
        begins: As written; None is not said.
        ends: As written; None is not said.
    """

    product: str
    app: str
    plan: str
    begins: date | None = None
    ends: date | None = None


def observed(
    history: Sequence[Term], current: Iterable[Subscribed], today: date
) -> tuple[Term, ...]:
    """Return ``history`` with what is subscribed ``today``.

    One that says no beginning began on the day when it was seen first, and one that comes back,
    on the day when it came back.
    """
    wanted = {(each.product, each.app, each.plan, each.begins): each for each in current}
    been = {(*term.what, term.written) for term in history if not term.stands}
    kept: list[Term] = []
    for term in history:
        found = wanted.pop((*term.what, term.written), None) if term.stands else None
        if not term.stands:
            kept.append(term)
        elif found is not None:
            kept.append(replace(term, ends=found.ends))
        elif (ended := _ended(term, today)) is not None:
            kept.append(ended)
    for key, each in wanted.items():
        begins = today if each.begins is None or key in been else each.begins
        what = each.product, each.app, each.plan
        kept.append(Term(*what, begins, each.ends, written=each.begins))
    return tuple(sorted(kept, key=lambda term: (term.what, term.begins)))


def _ended(term: Term, today: date) -> Term | None:
    if term.begins >= today:
        return None
    ends = today if term.ends is None else min(term.ends, today)
    return replace(term, ends=ends, stands=False)


def trial_end(terms: Iterable[Term], product: str, price: Price | None) -> date | None:
    """Return the first day of ``product`` that costs, or None when every day does.

    A trial begins with the consumer's first subscription to the product: who changes plans does
    not begin another.
    """
    if price is None or not price.trial_days:
        return None
    first = min((term.begins for term in terms if term.product == product), default=None)
    if first is None:
        return None
    return date.fromordinal(min(first.toordinal() + price.trial_days, _FAR.toordinal()))


def days(
    terms: Iterable[Term], what: tuple[str, str, str], month: Month, paid_from: date | None
) -> Days:
    """Return the days of ``month`` on which ``what`` has a fee."""
    stretches = (
        (term.begins if paid_from is None else max(term.begins, paid_from), term.ends)
        for term in terms
        if term.what == what
    )
    return Days.within(month, stretches)
