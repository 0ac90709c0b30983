"""What the gateway sells, and how the gateway itself is set."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from wherry.model.amount import Date, Meter
from wherry.model.authentication import ApiKey, Url
from wherry.model.authentication import Method as Authentication
from wherry.model.consumer import Consumer, Subscribed, Subscription
from wherry.model.plan import Plan, Rate
from wherry.model.resource import Duration, Name, Resource, Strict
from wherry.model.route import HeaderName, Hostname, Method
from wherry.model.traffic import Fixed, Network, Traffic

__all__ = [
    "ApiGateway",
    "ApiProduct",
    "Consumer",
    "Plan",
    "ProductRoute",
    "Rate",
    "Subscribed",
    "Subscription",
    "Target",
]

Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,128}$")]
"""A scope token, by RFC 6749 section 3.3."""


Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$", max_length=300)]
"""Scheme, host and port of a URL."""


class Upstream(Strict):
    """A function, a service of the mesh or an outside URL: exactly one.

    Attributes:
        rewrite: Path that takes the place of the matched one, for all but functions; None keeps
            it.
    """

    function: Annotated[str, Field(pattern=r"^[A-Za-z0-9-_]{1,64}$")] | None = None
    service: Name | None = None
    url: Url | None = None
    rewrite: str | None = Field(default=None, pattern=r"^/")

    @model_validator(mode="after")
    def _one_upstream(self) -> Self:
        if sum(each is not None for each in (self.function, self.service, self.url)) != 1:
            raise ValueError("target: expected exactly one of function, service and url")
        return self


class Weighted(Upstream):
    """An upstream and its share of the requests.

    Attributes:
        weight: In proportion to the sum of all.
        header: Requests with this header and value go here, whatever the weights.
    """

    weight: int = Field(default=1, ge=0, le=1_000_000)
    header: Annotated[tuple[str, str], Field(strict=False)] | None = None


class Mirror(Upstream):
    """An upstream that gets a copy of requests; its answers are thrown away."""

    percent: int = Field(default=100, ge=1, le=100)


class Target(Strict):
    """Where a route leads: a function, a service, an outside URL, a split, or a fixed answer.

    Attributes:
        rewrite: Path that takes the place of the matched one; None keeps it.
        split: Upstreams by weight: a canary. A caller stays with the one it got.
        mock: The answer itself.
        mirror: Also gets the requests.
    """

    function: Annotated[str, Field(pattern=r"^[A-Za-z0-9-_]{1,64}$")] | None = None
    service: Name | None = None
    url: Url | None = None
    rewrite: str | None = Field(default=None, pattern=r"^/")
    split: list[Weighted] = Field(default=[], max_length=16)
    mock: Fixed | None = None
    mirror: Mirror | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        given = (self.function, self.service, self.url, self.split or None, self.mock)
        if sum(each is not None for each in given) != 1:
            raise ValueError(
                "target: expected exactly one of function, service, url, split and mock"
            )
        if self.split and self.rewrite is not None:
            raise ValueError("target: rewrite beside split, expected it in each upstream")
        if self.split and not sum(each.weight for each in self.split):
            raise ValueError("split: every weight is 0, expected one over 0")
        return self


class HeaderIs(Strict):
    """A header that a request must have, with this value or, when None, any."""

    name: HeaderName
    value: str | None = Field(default=None, max_length=4096)


class ProductRoute(Strict):
    """Requests of a product and where they go.

    Attributes:
        path: Begins with ``/``; ``{name}`` stands for one segment, a last ``{name+}`` for the
            rest.
        methods: None given means all.
        headers: All of which a request must have.
        operation: Name in quotas, usage and the portal; None is methods and path.
        scopes: All of which the caller must be granted.
        cost: Units of ``requests`` that a call counts.
        authentication: Takes the place of the product's; None keeps it.
        traffic: Takes the place of the product's, policy by policy.
        max_body_bytes: Takes the place of the product's; None keeps it.
        timeout: Takes the place of the product's; None keeps it.
    """

    path: str = Field(pattern=r"^/", max_length=1024)
    methods: list[Method] = []
    headers: list[HeaderIs] = Field(default=[], max_length=16)
    operation: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    to: Target
    scopes: list[Scope] = Field(default=[], max_length=64)
    cost: int = Field(default=1, ge=0, le=1_000_000)
    authentication: list[Authentication] | None = Field(default=None, max_length=8)
    traffic: Traffic = Traffic()
    max_body_bytes: int | None = Field(default=None, ge=0, le=64 << 20)
    timeout: Duration | None = None


class Environment(Strict):
    """A place where a product is offered, by the host names that lead to it.

    Attributes:
        name: Keys may be made for one environment only.
        hosts: None given means every host that no other environment has.
        to: Takes the place of every route's target of its kind; None keeps them.
    """

    name: Name
    hosts: list[Hostname] = Field(default=[], max_length=64)
    to: Upstream | None = None


class ApiProductSpec(Strict):
    """See `ApiProduct`.

    Attributes:
        title: Shown in the portal; None is the name.
        description: Shown in the portal.
        version: Of the API; shown, and counted in usage.
        deprecated: Since when it should no longer be used; said in ``Deprecation``.
        sunset: When it ends; said in ``Sunset``.
        public: Whether the portal shows it.
        environments: None given is one, ``default``, on every host.
        routes: Looked through by path; see `ProductRoute`.
        plans: Plans that a consumer may subscribe under.
        scopes: What routes may ask for, with what each means.
        authentication: Tried in order; the first that the request carries decides.
        traffic: Policies of every route.
        openapi: The API's OpenAPI document, or the path of its file from here; shown in the
            portal, and held against calls where ``traffic.validate`` says so.
        reported: Meters whose amounts others report, by ``POST /v1/usage`` of the admin API.
        enforced_at: Who checks keys and plans: the gateway, or the sidecars of the services, so
            that clients of the mesh come without the extra hop.
        max_body_bytes: Larger requests get 413.
        timeout: Longer answers get 504.
    """

    title: str | None = Field(default=None, max_length=200)
    description: str = Field(default="", max_length=4000)
    version: str = Field(default="1", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    deprecated: Date | None = None
    sunset: Date | None = None
    public: bool = True
    environments: list[Environment] = Field(default=[], max_length=16)
    routes: list[ProductRoute] = Field(min_length=1, max_length=1024)
    plans: list[Name] = Field(min_length=1, max_length=64)
    scopes: dict[Scope, str] = Field(default={}, max_length=256)
    authentication: list[Authentication] = Field(default=[ApiKey()], min_length=1, max_length=8)
    traffic: Traffic = Traffic()
    openapi: dict[str, Any] | str | None = None
    reported: list[Meter] = Field(default=[], max_length=16)
    enforced_at: Literal["gateway", "sidecar"] = "gateway"
    max_body_bytes: int = Field(default=1 << 20, ge=0, le=64 << 20)
    timeout: Duration = "30s"

    @model_validator(mode="after")
    def _scopes_are_known(self) -> Self:
        for route in self.routes:
            for scope in route.scopes:
                if scope not in self.scopes:
                    raise ValueError(
                        f"route {route.path!r} scope {scope!r}, expected one of the product's "
                        f"scopes: {', '.join(sorted(self.scopes)) or 'it has none'}"
                    )
        return self

    @model_validator(mode="after")
    def _ends_after_it_is_deprecated(self) -> Self:
        if self.deprecated and self.sunset and self.sunset < self.deprecated:
            raise ValueError(
                f"sunset {self.sunset} before deprecated {self.deprecated}, expected it after"
            )
        return self


class ApiProduct(Resource):
    """Routes that are offered together under plans."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["ApiProduct"]
    spec: ApiProductSpec


class Tls(Strict):
    """The gateway's own certificate, and whom it trusts to name callers.

    Attributes:
        certificate: PEM file, from the folder of this document.
        key: PEM file of its private key.
        client_authority: PEM file of the authorities of client certificates; None asks for none.
    """

    certificate: str
    key: str
    client_authority: str | None = None


class ApiGatewaySpec(Strict):
    """See `ApiGateway`.

    Attributes:
        hosts: Names that it answers for; others get 421. None given is every name.
        url: Its public origin, which its own tokens name as their issuer; read at the start.
            None is where it listens.
        trusted_proxies: Peers whose ``X-Forwarded-For`` is believed.
        explain_refusals: Whether a revoked or expired key is told apart from an unknown one.
        timing: Whether answers say in ``Server-Timing`` what the gateway itself took.
        access_log: Whether each call is one line of JSON on the log.
        tls: None is plain HTTP.
        tokens_last: Of tokens from the own endpoint.
    """

    hosts: list[Hostname] = Field(default=[], max_length=256)
    url: Origin | None = None
    trusted_proxies: list[Network] = Field(default=[], max_length=256)
    explain_refusals: bool = False
    timing: bool = False
    access_log: bool = False
    tls: Tls | None = None
    tokens_last: Duration = "15m"


class ApiGateway(Resource):
    """How the API gateway is set; one at most, named ``default``."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["ApiGateway"]
    spec: ApiGatewaySpec = ApiGatewaySpec()
