"""What the catalogue of the API gateway refers to, and what it may not say twice."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wherry.config.guarded import at_sidecars, to_guarded
from wherry.config.lookup import Place, Wrong, missing
from wherry.model.authentication import Anonymous, Introspection, Jwt, Method
from wherry.model.consumer import App, Consumer, Subscribed, Subscription
from wherry.model.plan import Plan
from wherry.model.product import ApiGateway, ApiProduct, Environment, Target, Upstream
from wherry.model.resource import Resource
from wherry.model.traffic import Traffic
from wherry.model.world import World

GATEWAY = "default"
"""The name that the one `ApiGateway` has."""

REQUESTS = "requests"
"""The meter that every call counts."""

_EVER, _NEVER = "", "~"
"""Before every date and after every date, as text."""


def wrong(resource: Resource, world: World, folder: Path) -> Iterator[Wrong]:
    """Yield what a resource of the catalogue says that leads nowhere; of others nothing.

    Args:
        resource: Any.
        world: Where names lead.
        folder: Where the paths of files begin.
    """
    match resource:
        case ApiProduct():
            yield from _product(resource, world, folder)
        case Plan():
            yield from _plan(resource, world)
        case Consumer():
            yield from _consumer(resource, world)
        case Subscription():
            yield from _subscription(resource, world)
        case ApiGateway():
            yield from _gateway(resource, folder)
        case _:
            return


def _product(given: ApiProduct, world: World, folder: Path) -> Iterator[Wrong]:
    spec = given.spec
    for i, plan in enumerate(spec.plans):
        yield from missing("plan", plan, world.plans, "spec", "plans", i)
    yield from _methods(spec.authentication, world, ("spec", "authentication"))
    yield from _validated(spec.traffic, given, ("spec",))
    for i, route in enumerate(spec.routes):
        place: Place = ("spec", "routes", i)
        yield from _target(route.to, world, (*place, "to"))
        yield from _methods(route.authentication or (), world, (*place, "authentication"))
        yield from _validated(route.traffic, given, place)
    yield from _environments(spec.environments, world)
    if spec.enforced_at == "sidecar":
        yield from at_sidecars(given, world)
    else:
        yield from to_guarded(given, world)
    if isinstance(spec.openapi, str) and not (folder / spec.openapi).is_file():
        yield ("spec", "openapi"), f"no file {spec.openapi!r}", "an OpenAPI document"


def _target(to: Target, world: World, place: Place) -> Iterator[Wrong]:
    yield from _upstream(to.service, world, place)
    for i, each in enumerate(to.split):
        yield from _upstream(each.service, world, (*place, "split", i))
    if to.mirror is not None:
        yield from _upstream(to.mirror.service, world, (*place, "mirror"))


def _upstream(service: str | None, world: World, place: Place) -> Iterator[Wrong]:
    if service is not None:
        yield from missing("service", service, world.services, *place, "service")


def _methods(methods: Sequence[Method], world: World, place: Place) -> Iterator[Wrong]:
    for i, method in enumerate(methods):
        match method:
            case Anonymous() | Jwt() | Introspection() if method.consumer is not None:
                path = (*place, i, "consumer")
                yield from missing("consumer", method.consumer, world.consumers, *path)
            case _:
                continue


def _validated(traffic: Traffic, given: ApiProduct, place: Place) -> Iterator[Wrong]:
    if traffic.validate_ is not None and given.spec.openapi is None:
        found = f"validate in product {given.name!r}, which has no OpenAPI document"
        yield (*place, "traffic", "validate"), found, "openapi in the product's spec"


def _environments(environments: Sequence[Environment], world: World) -> Iterator[Wrong]:
    names: set[str] = set()
    hosts: dict[str, str] = {}
    gateway = world.api_gateways.get(GATEWAY)
    served = {host: host for host in gateway.spec.hosts} if gateway else {}
    for i, each in enumerate(environments):
        place: Place = ("spec", "environments", i)
        if each.name in names:
            yield (*place, "name"), f"environment {each.name!r} a second time", "each name once"
        names.add(each.name)
        told = each.hosts or ["every other host"]
        for j, host in enumerate(told):
            path = (*place, "hosts", j) if each.hosts else place
            if host in hosts:
                found = f"{host!r} in environment {each.name!r}, as in {hosts[host]!r}"
                yield path, found, "each host in one environment"
            hosts.setdefault(host, each.name)
            if served and each.hosts and not _served(host, served):
                yield from missing("host of the ApiGateway", host, served, *path)
        if isinstance(each.to, Upstream):
            yield from _upstream(each.to.service, world, (*place, "to"))


def _served(host: str, served: Mapping[str, object]) -> bool:
    """Return whether the gateway answers for ``host``, by name or by a wildcard."""
    if host in served:
        return True
    rest = host.removeprefix("*.")
    while "." in rest:
        _, _, rest = rest.partition(".")
        if f"*.{rest}" in served:
            return True
    return False


def _plan(given: Plan, world: World) -> Iterator[Wrong]:
    """A meter must be counted by a product that offers the plan, or reported for it."""
    offering = [each for each in world.products.values() if given.name in each.spec.plans]
    if not offering:
        return
    known = {meter: meter for each in offering for meter in _meters(each)}
    for i, quota in enumerate(given.spec.quotas):
        path: Place = ("spec", "quotas", i, "meter")
        yield from missing("meter", quota.meter, known, *path)
    for i, price in enumerate(given.spec.price.usage if given.spec.price else ()):
        path = ("spec", "price", "usage", i, "meter")
        yield from missing("meter", price.meter, known, *path)


def _meters(given: ApiProduct) -> Iterator[str]:
    yield REQUESTS
    yield from given.spec.reported
    for traffic in (given.spec.traffic, *(route.traffic for route in given.spec.routes)):
        for each in traffic.meters:
            yield each.meter


def _consumer(given: Consumer, world: World) -> Iterator[Wrong]:
    names: set[str] = set()
    for i, app in enumerate(given.spec.apps):
        if app.name in names:
            yield ("spec", "apps", i, "name"), f"app {app.name!r} a second time", "each name once"
        names.add(app.name)
    for i, subscribed in enumerate(given.spec.subscriptions):
        yield from _subscribed(subscribed, world, ("spec", "subscriptions", i))


def _subscription(given: Subscription, world: World) -> Iterator[Wrong]:
    spec = given.spec
    yield from missing("consumer", spec.consumer, world.consumers, "spec", "consumer")
    owner = world.consumers.get(spec.consumer)
    if spec.app is not None and owner is not None:
        apps = {app.name: app for app in owner.spec.apps} | {GATEWAY: None}
        yield from missing(f"app of {owner.name!r} named", spec.app, apps, "spec", "app")
    yield from _subscribed(spec, world, ("spec",))


def _subscribed(given: Subscribed, world: World, place: Place) -> Iterator[Wrong]:
    yield from missing("product", given.product, world.products, *place, "product")
    yield from missing("plan", given.plan, world.plans, *place, "plan")
    product = world.products.get(given.product)
    if product and given.plan in world.plans:
        offered = {plan: plan for plan in product.spec.plans}
        what = f"plan of {product.name!r} named"
        yield from missing(what, given.plan, offered, *place, "plan")


def _gateway(given: ApiGateway, folder: Path) -> Iterator[Wrong]:
    if given.name != GATEWAY:
        yield ("metadata", "name"), f"ApiGateway {given.name!r}", f"{GATEWAY!r}: there is only one"
    if (tls := given.spec.tls) is not None:
        files = {
            "certificate": tls.certificate,
            "key": tls.key,
            "clientAuthority": tls.client_authority,
        }
        for name, path in files.items():
            if path is not None and not (folder / path).is_file():
                yield ("spec", "tls", name), f"no file {path!r}", "a PEM file"


def twice(world: World) -> Iterator[tuple[Resource, Wrong]]:
    """Yield what two resources claim that only one can have, at the later of them."""
    yield from _claims(world)
    yield from _overlaps(world)


def _claims(world: World) -> Iterator[tuple[Resource, Wrong]]:
    """A token or certificate stands for one app."""
    first: dict[tuple[str, ...], str] = {}
    for owner in world.consumers.values():
        for i, app in enumerate(owner.spec.apps):
            for step, claim, what in _credentials(app):
                whose = f"app {app.name!r} of {owner.name!r}"
                before = first.setdefault(claim, whose)
                if before != whose:
                    found = f"{what} of {whose}, as of {before}"
                    place = ("spec", "apps", i, *step)
                    yield owner, (place, found, "each for one app")


def _credentials(app: App) -> Iterator[tuple[Place, tuple[str, ...], str]]:
    for i, identity in enumerate(app.identities):
        claim = (identity.issuer, identity.subject)
        yield ("identities", i), claim, f"identity {identity.subject!r}"
    for i, certificate in enumerate(app.certificates):
        yield ("certificates", i), (certificate,), f"certificate {certificate[:12]}…"


_Key = tuple[str, str | None, str]
_Use = tuple[Resource, Place, Subscribed]


def _overlaps(world: World) -> Iterator[tuple[Resource, Wrong]]:
    """A product is used under one plan at a time: it would be open which limits and price hold."""
    seen: set[_Key] = set()
    several: dict[_Key, list[_Use]] = {}
    for key, _ in _uses(world):
        if key in seen:
            several[key] = []
        seen.add(key)
    if not several:
        return
    for key, use in _uses(world):
        if key in several:
            several[key].append(use)
    for (who, _, what), uses in several.items():
        yield from _overlapping(who, what, uses)


def _uses(world: World) -> Iterator[tuple[_Key, _Use]]:
    for owner in world.consumers.values():
        name = owner.name
        for i, each in enumerate(owner.spec.subscriptions):
            yield (name, None, each.product), (owner, ("spec", "subscriptions", i), each)
    for other in world.subscriptions.values():
        spec = other.spec
        if spec.state == "active":
            yield (spec.consumer, spec.app, spec.product), (other, ("spec",), spec)


def _overlapping(who: str, what: str, uses: list[_Use]) -> Iterator[tuple[Resource, Wrong]]:
    ordered = sorted(uses, key=lambda use: use[2].begins or _EVER)
    ends = _EVER
    for place, (resource, path, each) in enumerate(ordered):
        if place and (each.begins or _EVER) < ends:
            found = f"{who!r} subscribed to {what!r} more than once at a time"
            yield resource, (path, found, "one to end before the next begins")
        ends = max(ends, each.ends or _NEVER)
