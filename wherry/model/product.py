"""What the gateway sells: products, plans and the consumers who subscribe."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wherry.model.resource import Duration, Name, Resource, Strict
from wherry.model.route import Method


class Rate(Strict):
    """At most ``requests`` in ``per``, with ``burst`` at once.

    Attributes:
        burst: Requests that may come together; None allows ``requests``.
    """

    requests: int = Field(ge=1, le=1_000_000_000)
    per: Duration = "1m"
    burst: int | None = Field(default=None, ge=1, le=1_000_000_000)


class PlanSpec(Strict):
    """See `Plan`."""

    rate: Rate


class Plan(Resource):
    """How much a subscriber may call."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Plan"]
    spec: PlanSpec


class Target(Strict):
    """Where a route leads: a function or a service, one of them.

    Attributes:
        rewrite: Path that takes the place of the matched one towards a service; None keeps it.
    """

    function: Annotated[str, Field(pattern=r"^[A-Za-z0-9-_]{1,64}$")] | None = None
    service: Name | None = None
    rewrite: str | None = Field(default=None, pattern=r"^/")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.function is None) == (self.service is None):
            raise ValueError("target: expected exactly one of function and service")
        return self


class ProductRoute(Strict):
    """Requests of a product and where they go.

    Attributes:
        path: Begins with ``/``; ``{name}`` stands for one segment, a last ``{name+}`` for the
            rest.
        methods: None given means all.
    """

    path: str = Field(pattern=r"^/", max_length=1024)
    methods: list[Method] = []
    to: Target


class ApiProductSpec(Strict):
    """See `ApiProduct`.

    Attributes:
        plans: Plans that a consumer may subscribe under.
        max_body_bytes: Larger requests get 413.
        timeout: Longer answers get 504.
    """

    routes: list[ProductRoute] = Field(min_length=1, max_length=256)
    plans: list[Name] = Field(min_length=1, max_length=64)
    max_body_bytes: int = Field(default=1 << 20, ge=0, le=64 << 20)
    timeout: Duration = "30s"


class ApiProduct(Resource):
    """Routes that are offered together under plans."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["ApiProduct"]
    spec: ApiProductSpec


class Subscription(Strict):
    """A product and the plan it is used under."""

    product: Name
    plan: Name


class ConsumerSpec(Strict):
    """See `Consumer`."""

    subscriptions: list[Subscription] = Field(min_length=1, max_length=64)


class Consumer(Resource):
    """Who calls; their keys are made with ``wherry key create``."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Consumer"]
    spec: ConsumerSpec
