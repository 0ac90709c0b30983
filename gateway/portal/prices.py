"""Plans in plain words: what one may use, and what that costs."""

from collections.abc import Iterator
from decimal import Decimal

from wherry.model.plan import PlanSpec, Quota, Rate, Spike
from wherry.model.pricing import Price, Tier, UsagePrice
from wherry.model.resource import seconds

_LENGTHS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
_MODELS = {"requests": "request"}


def limits(plan: PlanSpec) -> Iterator[str]:
    """Yield what a subscriber may use at most."""
    if plan.rate is not None:
        yield f"{plan.rate.requests:,} requests per {_length(plan.rate)}"
    if plan.spike is not None:
        yield f"evenly, at most {plan.spike.requests:,} per {_length(plan.spike)}"
    for quota in plan.quotas:
        yield allowance(quota)
    if plan.concurrency is not None:
        yield f"{plan.concurrency.calls:,} at the same time"
    if not (plan.rate or plan.spike or plan.quotas or plan.concurrency):
        yield "no limit"


def allowance(quota: Quota) -> str:
    """Return a quota in words."""
    window = f"each {quota.every}" if quota.window == "anchored" else f"a {quota.window}"
    if quota.window == "hour":
        window = "an hour"
    shared = {"all": " across all products", "product": "", "operation": " for each operation"}
    return f"{quota.limit:,} {quota.meter.replace('_', ' ')} {window}{shared[quota.per]}"


def headline(plan: PlanSpec) -> str:
    """Return the first thing to say about what a plan costs."""
    price = plan.price
    if price is None:
        return "Free"
    if price.recurring is not None and Decimal(price.recurring.amount) > 0:
        return f"{_money(price.recurring.amount, price)} a month"
    return "Pay for what you use" if price.usage else "Free"


def costs(plan: PlanSpec) -> Iterator[str]:
    """Yield what a plan costs beside its `headline`."""
    price = plan.price
    if price is None:
        return
    if price.trial_days:
        yield f"the first {price.trial_days} days cost nothing"
    if Decimal(price.setup) > 0:
        yield f"{_money(price.setup, price)} once, to begin"
    for usage in price.usage:
        yield _usage(usage, price)
    if Decimal(price.minimum) > 0:
        yield f"at least {_money(price.minimum, price)} a month"
    if price.prepaid:
        yield "prepaid: calls stop when the credit is used up"


def _usage(usage: UsagePrice, price: Price) -> str:
    one = _MODELS.get(usage.meter, usage.meter.replace("_", " "))
    many = usage.meter.replace("_", " ")
    free = f"{usage.included:,} {many} included, then " if usage.included else ""
    match usage.model:
        case "flat":
            return f"{free}{_money(usage.amount, price)} a month for {many}"
        case "perUnit":
            return f"{free}{_money(usage.unit, price)} per {one}"
        case "bundle":
            beyond = f", {_money(usage.overage, price)} per {one} beyond" if usage.overage else ""
            size = f"{usage.size or 0:,} {many}"
            return f"{free}{_money(usage.amount, price)} for {size}{beyond}"
        case "graduated":
            return free + ", ".join(_tiers(usage.tiers, price, one))
        case "volume":
            said = ", ".join(_tiers(usage.tiers, price, one))
            return f"{free}all {many} at the price of the last one reached: {said}"


def _tiers(tiers: list[Tier], price: Price, one: str) -> Iterator[str]:
    for tier in tiers:
        unit = f"{_money(tier.unit, price)} per {one}"
        flat = f"{_money(tier.flat, price)} and " if Decimal(tier.flat) > 0 else ""
        yield f"{flat}{unit} {f'up to {tier.up_to:,}' if tier.up_to else 'from there on'}"


def _money(amount: str | None, price: Price) -> str:
    return f"{amount or '0'} {price.currency}"


def _length(given: Rate | Spike) -> str:
    return _LENGTHS.get(seconds(given.per), given.per)
