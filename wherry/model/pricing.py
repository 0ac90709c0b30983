"""What a plan costs: fees, and prices of what is used."""

from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from wherry.model.amount import Currency, Meter, Money, Percent
from wherry.model.resource import Name, Strict


class Tier(Strict):
    """A range of units and its price.

    Attributes:
        up_to: Last unit of the tier, counted from the period's first; None is without end.
        unit: Price of each unit.
        flat: Price of the tier as a whole, once any unit falls in it.
    """

    up_to: int | None = Field(default=None, ge=1, le=10**15)
    unit: Money = "0"
    flat: Money = "0"


class UsagePrice(Strict):
    """The price of one meter.

    Attributes:
        meter: What is counted.
        model: ``flat``: ``amount`` once any unit is used; ``perUnit``: ``unit`` for each;
            ``graduated``: each tier's units at its own price; ``volume``: all units at the price
            of the tier that the total falls in; ``bundle``: ``amount`` for each started ``size``
            units, or with ``overage`` one bundle and that price for each unit beyond it.
        included: Units of each period that cost nothing.
        unit: See ``model``.
        amount: See ``model``.
        size: See ``model``.
        overage: See ``model``.
        tiers: See ``model``; rising, the last without end.
    """

    meter: Meter = "requests"
    model: Literal["flat", "perUnit", "graduated", "volume", "bundle"]
    included: int = Field(default=0, ge=0, le=10**15)
    unit: Money | None = None
    amount: Money | None = None
    size: int | None = Field(default=None, ge=1, le=10**15)
    overage: Money | None = None
    tiers: list[Tier] = Field(default=[], max_length=64)

    @model_validator(mode="after")
    def _says_what_its_model_needs(self) -> Self:
        needed = {
            "flat": {"amount"},
            "perUnit": {"unit"},
            "graduated": {"tiers"},
            "volume": {"tiers"},
            "bundle": {"amount", "size"},
        }[self.model]
        optional = {"overage"} if self.model == "bundle" else set()
        for name in ("unit", "amount", "size", "overage", "tiers"):
            given = (
                bool(getattr(self, name)) if name == "tiers" else getattr(self, name) is not None
            )
            if given != (name in needed) and name not in optional:
                verb = "without" if name in needed else "with"
                expected = "one" if name in needed else f"only {', '.join(sorted(needed))}"
                raise ValueError(f"price model {self.model!r} {verb} {name}, expected {expected}")
        return self

    @model_validator(mode="after")
    def _tiers_rise(self) -> Self:
        before = 0
        for place, tier in enumerate(self.tiers):
            last = place == len(self.tiers) - 1
            if (tier.up_to is None) != last:
                raise ValueError(
                    f"tier {place + 1}: upTo {tier.up_to}, expected a number in every tier but "
                    "the last, which has none"
                )
            if tier.up_to is not None and tier.up_to <= before:
                raise ValueError(
                    f"tier {place + 1}: upTo {tier.up_to} after {before}, expected tiers that "
                    "rise and do not overlap"
                )
            before = tier.up_to or before
        return self


class Recurring(Strict):
    """A fee for each billing period.

    Attributes:
        amount: Of a whole period.
        prorate: Whether a period that is used in part costs its share of days.
    """

    amount: Money
    prorate: bool = True


class Share(Strict):
    """A party's part of what is earned."""

    party: Name
    percent: Percent


class Price(Strict):
    """What a subscription under a plan costs.

    Attributes:
        currency: Of every amount here.
        setup: Once, with the first invoice.
        recurring: For each month; None is none.
        usage: Of each meter, at most once each.
        minimum: What a month costs at least, fees and usage together.
        trial_days: Days from the subscription's beginning that cost nothing.
        prepaid: Whether calls stop when the consumer's credit is used up.
        shares: Parts of the earnings that are others'; at most 100 percent together.
    """

    currency: Currency
    setup: Money = "0"
    recurring: Recurring | None = None
    usage: list[UsagePrice] = Field(default=[], max_length=32)
    minimum: Money = "0"
    trial_days: int = Field(default=0, ge=0, le=3650)
    prepaid: bool = False
    shares: list[Share] = Field(default=[], max_length=16)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        meters = [price.meter for price in self.usage]
        for meter in meters:
            if meters.count(meter) > 1:
                raise ValueError(f"price of {meter!r} a second time, expected each meter once")
        total = sum(Decimal(share.percent) for share in self.shares)
        if total > 100:  # noqa: PLR2004
            raise ValueError(f"shares of {total} percent, expected at most 100 together")
        return self
