"""What a product may not ask for that sidecars enforce.

A sidecar knows the head of a request and, later, that it ended; it sends the request to its own
program.
"""

from collections.abc import Iterator, Sequence

from wherry.config.lookup import Place, Wrong
from wherry.model.authentication import Method
from wherry.model.product import ApiProduct, Target
from wherry.model.traffic import Traffic
from wherry.model.world import World

_POLICIES = {"addresses", "maintenance"}
_NEEDS_MORE = {"hmac", "mtls"}
_BOUNDS = {"max_body_bytes": "maxBodyBytes", "timeout": "timeout"}
_WITHOUT = "none, or enforcedAt: gateway"


def at_sidecars(given: ApiProduct, world: World) -> Iterator[Wrong]:
    """Yield what of a product with ``enforcedAt: sidecar`` no sidecar can do."""
    spec = given.spec
    if spec.environments:
        yield ("spec", "environments"), "environments at a sidecar", "none"
    for name in sorted(spec.model_fields_set & _BOUNDS.keys()):
        yield ("spec", _BOUNDS[name]), f"{_BOUNDS[name]} at a sidecar", _WITHOUT
    yield from _needs(("spec",), spec.traffic, spec.authentication)
    for i, route in enumerate(spec.routes):
        place: Place = ("spec", "routes", i)
        yield from _needs(place, route.traffic, route.authentication or ())
        yield from _target((*place, "to"), route.to, world)
        for name in sorted(route.model_fields_set & _BOUNDS.keys()):
            yield (*place, _BOUNDS[name]), f"{_BOUNDS[name]} at a sidecar", _WITHOUT
    for i, name in enumerate(spec.plans):
        plan = world.plans.get(name)
        if plan is not None and plan.spec.concurrency is not None:
            found = f"plan {name!r} with concurrency, which sidecars do not count"
            yield ("spec", "plans", i), found, "a plan without it, or enforcedAt: gateway"


def to_guarded(given: ApiProduct, world: World) -> Iterator[Wrong]:
    """Yield the routes by way of the gateway to programs that sidecars guard with another product.

    Their sidecars ask each caller for that product's key, the gateway as well.
    """
    guarded = world.guarded()
    for i, route in enumerate(given.spec.routes):
        services: list[tuple[Place, str | None]] = [(("to", "service"), route.to.service)]
        services += [
            (("to", "split", j, "service"), each.service) for j, each in enumerate(route.to.split)
        ]
        for place, name in services:
            service = world.services.get(name or "")
            app = service.spec.selector.get("app", "") if service else ""
            if app in guarded:
                found = f"service {name!r}, which sidecars guard for product {guarded[app][0]!r}"
                yield ("spec", "routes", i, *place), found, "a service without such a product"


def asks(app: str, path: str, world: World) -> Iterator[ApiProduct]:
    """Yield a product that asks a GET of ``path`` at the program ``app`` for a key, if one does."""
    guarding = [world.products[name] for name in world.guarded().get(app, ())]
    for given in guarding:
        for route in given.spec.routes:
            methods = given.spec.authentication if route.authentication is None else ()
            free = any(each.type == "anonymous" for each in route.authentication or methods)
            if free and route.path == path and (not route.methods or "GET" in route.methods):
                return
    yield from guarding[:1]


def _needs(place: Place, traffic: Traffic, methods: Sequence[Method]) -> Iterator[Wrong]:
    for name in sorted(traffic.model_fields_set - _POLICIES):
        shown = name.rstrip("_")
        expected = "addresses and maintenance only, or enforcedAt: gateway"
        yield (*place, "traffic", shown), f"policy {shown!r} at a sidecar", expected
    for i, method in enumerate(methods):
        if method.type in _NEEDS_MORE:
            found = f"authentication {method.type!r} at a sidecar"
            yield (*place, "authentication", i), found, "another, or enforcedAt: gateway"


def _target(place: Place, to: Target, world: World) -> Iterator[Wrong]:
    service = world.services.get(to.service or "")
    if to.service is None or to.rewrite is not None or to.mirror is not None:
        yield place, "a target that no sidecar can enforce", "a service alone, without rewrite"
    elif service is not None and "app" not in service.spec.selector:
        found = f"service {service.name!r}, which has no sidecars of its own"
        yield (*place, "service"), found, "one that programs register for"
