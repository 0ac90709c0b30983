"""All that the gateway reads of a World, compiled: one value, replaced whole."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from gateway.authn.check import Prepared
from gateway.call import Fields
from gateway.catalogue.route import Making, Prepare, Route, compiled
from gateway.catalogue.subscriptions import Subscriptions, Terms
from gateway.catalogue.table import NO_FIELDS, Table, WrongMethod
from gateway.limits.allowance import Allowance
from gateway.path import Path
from gateway.traffic.openapi.contract import Contract
from wherry.model.authentication import Method
from wherry.model.product import ApiGatewaySpec, ApiProduct, Environment, Plan
from wherry.model.world import World

NO_CONTRACTS: Mapping[str, Contract] = MappingProxyType({})

At = Literal["gateway", "sidecar"]


class Catalogue:
    """Every route and every subscription of one World.

    A look-up costs the same whatever the number of products, routes and consumers. See
    `Table` for which of several routes is taken.

    Attributes:
        settings: Of the gateway itself.
        overlapping: Routes that another product already has, as ``PRODUCT METHOD PATH``; the
            product that is first by name keeps them.
        routes: Every one of them, by product.
    """

    def __init__(self, settings: ApiGatewaySpec, subscriptions: Subscriptions[Allowance]) -> None:
        self.settings = settings
        self.overlapping: tuple[str, ...] = ()
        self.routes: tuple[Route, ...] = ()
        self._table, self._subscriptions = Table(), subscriptions
        self._hosts = frozenset(settings.hosts)

    @classmethod
    def of(
        cls,
        world: World,
        prepare: Prepare | None = None,
        *,
        contracts: Mapping[str, Contract] = NO_CONTRACTS,
        at: At | None = None,
    ) -> "Catalogue":
        """Compile ``world``.

        Args:
            world: What users wrote.
            prepare: Makes ways to authenticate ready; None: nobody will be identified.
            contracts: By product, for those whose calls are held against documents.
            at: Only products that are enforced there; None is all.

        Raises:
            TemplateError: A path template, a rewrite or a URL cannot be used.
        """
        gateways = [world.api_gateways[name] for name in sorted(world.api_gateways)]
        settings = gateways[0].spec if gateways else ApiGatewaySpec()
        self = cls(settings, Subscriptions(world, _allowance))
        overlapping: list[str] = []
        routes: list[Route] = []
        for name in sorted(world.products):
            product = world.products[name]
            if at is None or product.spec.enforced_at == at:
                making = Making(prepare or _nobody, contracts.get(name))
                overlapping += self._add(product, routes, making)
        self.overlapping, self.routes = tuple(overlapping), tuple(routes)
        return self

    def answers_for(self, host: str) -> bool:
        """Return whether the gateway has the name ``host``."""
        if not self._hosts or host in self._hosts:
            return True
        _, dot, rest = host.partition(".")
        while dot:
            if f"*.{rest}" in self._hosts:
                return True
            _, dot, rest = rest.partition(".")
        return False

    def match(
        self, method: str, path: Path, host: str = "", headers: Fields = NO_FIELDS
    ) -> Route | WrongMethod | None:
        """Return the route for a request, or why there is none; None: no product has the path."""
        return self._table.match(method, path, host, headers)

    def blocked(self, consumer: str) -> bool:
        """Return whether every call of ``consumer`` is refused."""
        return consumer in self._subscriptions.blocked

    def terms(self, consumer: str, app: str, product: str, now_ns: int) -> Terms[Allowance] | None:
        """Return the plan under which an app of ``consumer`` uses ``product`` now, or None."""
        return self._subscriptions.of(consumer, app, product, now_ns)

    def _add(self, product: ApiProduct, routes: list[Route], making: Making) -> list[str]:
        overlapping = []
        places: Sequence[Environment | None] = product.spec.environments or [None]
        for place in places:
            hosts = () if place is None else tuple(place.hosts)
            for each in product.spec.routes:
                route = compiled(product, each, place, making)
                overlapping += self._table.add(route, hosts)
                routes.append(route)
        return overlapping


def _nobody(methods: Sequence[Method]) -> Prepared:
    del methods
    return Prepared.of([])


def _allowance(plan: Plan, zone: str, begins: str | None) -> Allowance:
    return Allowance.of(plan, timezone=zone, begins=begins)
