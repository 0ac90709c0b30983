"""Everything that users wrote, as one immutable value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

from wherry.model.access import AuthorizationPolicy, CheckPolicy
from wherry.model.function import Function
from wherry.model.health import HealthCheck
from wherry.model.product import ApiGateway, ApiProduct, Consumer, Plan, Subscription
from wherry.model.resource import Resource
from wherry.model.route import Gateway, HTTPRoute
from wherry.model.service import Service, Workload
from wherry.model.sidecar import Sidecar


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a resource was written.

    Attributes:
        file: Path as the user named it.
        line: First line of its document.
        folder: Absolute folder of the file; relative paths in the resource start here.
    """

    file: str
    line: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class World:
    """The configuration: by kind, then by name. Built by `wherry.config.load`.

    Attributes:
        origins: By ``(kind, name)``, for messages that name the place.
    """

    services: Mapping[str, Service] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    gateways: Mapping[str, Gateway] = field(default_factory=dict)
    http_routes: Mapping[str, HTTPRoute] = field(default_factory=dict)
    sidecars: Mapping[str, Sidecar] = field(default_factory=dict)
    authorization_policies: Mapping[str, AuthorizationPolicy] = field(default_factory=dict)
    check_policies: Mapping[str, CheckPolicy] = field(default_factory=dict)
    health_checks: Mapping[str, HealthCheck] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    products: Mapping[str, ApiProduct] = field(default_factory=dict)
    plans: Mapping[str, Plan] = field(default_factory=dict)
    consumers: Mapping[str, Consumer] = field(default_factory=dict)
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    api_gateways: Mapping[str, ApiGateway] = field(default_factory=dict)
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in fields(self):
            frozen = MappingProxyType(dict(getattr(self, each.name)))
            object.__setattr__(self, each.name, frozen)

    def resources(self) -> Iterator[Resource]:
        """Yield every resource, kind by kind."""
        for each in fields(self):
            if each.name != "origins":
                yield from getattr(self, each.name).values()

    def guarded(self) -> Mapping[str, tuple[str, ...]]:
        """Return the products that sidecars enforce, by the name that programs register for."""
        found: dict[str, set[str]] = {}
        for product in self.products.values():
            if product.spec.enforced_at == "sidecar":
                for route in product.spec.routes:
                    service = self.services.get(route.to.service or "")
                    if service is not None:
                        app = service.spec.selector.get("app", "")
                        found.setdefault(app, set()).add(product.name)
        return {app: tuple(sorted(products)) for app, products in found.items()}

    def origin(self, kind: str, name: str) -> Origin:
        """Return where the resource was written."""
        return self.origins[kind, name]


FIELD: Mapping[type[Resource], str] = MappingProxyType(
    {
        Service: "services",
        Workload: "workloads",
        Gateway: "gateways",
        HTTPRoute: "http_routes",
        Sidecar: "sidecars",
        AuthorizationPolicy: "authorization_policies",
        CheckPolicy: "check_policies",
        HealthCheck: "health_checks",
        Function: "functions",
        ApiProduct: "products",
        Plan: "plans",
        Consumer: "consumers",
        Subscription: "subscriptions",
        ApiGateway: "api_gateways",
    }
)
"""Every kind that a file may hold, and where `World` keeps it."""
