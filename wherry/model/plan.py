"""Plans: how much a subscriber may call, and what that costs."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from wherry.model.amount import Meter, Zone
from wherry.model.pricing import Price
from wherry.model.resource import Duration, Name, Resource, Strict, seconds

_SHORTEST = 0.001


def _some_time(text: str) -> str:
    if seconds(text) < _SHORTEST:
        raise ValueError(f"per {text!r}, expected at least 1ms")
    return text


Period = Annotated[Duration, AfterValidator(_some_time)]
"""A duration of at least a millisecond."""

By = Literal["credential", "app", "consumer", "address"]
"""Whose calls share one count: a key's, an app's, a consumer's, or a client address'."""


class Rate(Strict):
    """At most ``requests`` in ``per``, evenly, with ``burst`` at once.

    Attributes:
        burst: Requests that may come together; None allows ``requests``.
        by: Whose calls share the rate.
    """

    requests: int = Field(ge=1, le=1_000_000_000)
    per: Period = "1m"
    burst: int | None = Field(default=None, ge=1, le=1_000_000_000)
    by: By = "credential"


class Spike(Strict):
    """Spike arrest: calls at least ``per / requests`` apart, whatever was saved up.

    Attributes:
        by: Whose calls share it.
    """

    requests: int = Field(ge=1, le=1_000_000_000)
    per: Period = "1s"
    by: By = "credential"


class Quota(Strict):
    """At most ``limit`` units in each window.

    Attributes:
        name: Shown to callers; unique within the plan.
        limit: Units of the meter.
        window: A calendar window in ``timezone``, or the subscription's own: every ``every``
            since it began.
        every: Length of an anchored window; only with ``window: anchored``.
        timezone: Where calendar windows begin; None is the consumer's, else UTC.
        meter: What is counted; ``requests`` counts each call's cost.
        by: Whose calls share the count.
        per: Counted for each product by itself, for each operation by itself, or for all.
    """

    name: Name
    limit: int = Field(ge=0, le=1_000_000_000_000)
    window: Literal["minute", "hour", "day", "week", "month", "year", "anchored"] = "month"
    every: Duration | None = None
    timezone: Zone | None = None
    meter: Meter = "requests"
    by: Literal["app", "consumer"] = "consumer"
    per: Literal["all", "product", "operation"] = "product"

    @model_validator(mode="after")
    def _anchored_windows_have_a_length(self) -> Self:
        if (self.window == "anchored") != (self.every is not None):
            raise ValueError("quota: expected 'every' with 'window: anchored', and only there")
        if self.every is not None and seconds(self.every) < 1:
            raise ValueError(f"quota every {self.every!r}, expected at least 1s")
        return self


class Concurrency(Strict):
    """At most ``calls`` under way at once.

    Attributes:
        by: Whose calls share the places.
    """

    calls: int = Field(ge=1, le=1_000_000)
    by: Literal["credential", "app", "consumer"] = "consumer"


class PlanSpec(Strict):
    """See `Plan`.

    Attributes:
        title: Shown in the portal; None is the name.
        description: Shown in the portal.
        public: Whether developers may choose it by themselves.
        approval: Whether a subscription under it waits until an operator approves it.
        rate: None is no rate limit.
        spike: None is no spike arrest.
        quotas: Each must hold.
        concurrency: None is no limit of this kind.
        when_store_fails: What counts while shared counters cannot be reached: nothing (``open``),
            everything is refused with 503 (``closed``), or each gateway counts for itself and
            allows its share (``local``).
        price: None costs nothing.
    """

    title: str | None = Field(default=None, max_length=200)
    description: str = Field(default="", max_length=4000)
    public: bool = True
    approval: bool = False
    rate: Rate | None = None
    spike: Spike | None = None
    quotas: list[Quota] = Field(default=[], max_length=16)
    concurrency: Concurrency | None = None
    when_store_fails: Literal["open", "closed", "local"] = "local"
    price: Price | None = None

    @model_validator(mode="after")
    def _each_quota_has_its_name(self) -> Self:
        names = [quota.name for quota in self.quotas]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"quota {name!r} a second time, expected each name once")
        return self


class Plan(Resource):
    """How much a subscriber may call, and at what price."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Plan"]
    spec: PlanSpec = PlanSpec()
