"""Who may call what, as far as the World says so."""

from collections.abc import Iterable, Mapping

from wherry.model.sidecar import EVERY_HOST, Sidecar, service_of
from wherry.model.world import World

Reach = frozenset[str] | None
"""Names of services; None for every one that there is."""


class Sidecars:
    """The `Sidecar` resources of a World, asked by labels."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._by_app: dict[str | None, list[Sidecar]] = {}
        for sidecar in sorted(world.sidecars.values(), key=_rank):
            app = _labels(sidecar).get("app")
            self._by_app.setdefault(app, []).append(sidecar)

    def of_workload(self, labels: Mapping[str, str]) -> Reach:
        """Return what the most specific Sidecar that selects these labels lets be called.

        Among equally specific ones the first by name decides. One without egress has that of the
        default of the mesh; where there is none, everything may be called.

        Source: https://istio.io/latest/docs/reference/config/networking/sidecar/
        """
        candidates = [*self._by_app.get(labels.get("app"), ()), *self._by_app.get(None, ())]
        matching = [s for s in candidates if _labels(s).items() <= labels.items()]
        if not matching:
            return None
        own = min(matching, key=_rank)
        if not own.spec.egress:
            default = [s for s in matching if not _labels(s) and s.spec.egress]
            return _said(default[0], self._world) if default else None
        return _said(own, self._world)


def _labels(sidecar: Sidecar) -> Mapping[str, str]:
    return sidecar.spec.workload_selector.labels


def _rank(sidecar: Sidecar) -> tuple[int, str]:
    return -len(_labels(sidecar)), sidecar.name


def of_function(world: World, name: str) -> Reach:
    """Return what a function may call: what it says, or everything."""
    function = world.functions.get(name)
    if function is None or function.spec.calls is None:
        return None
    return _known(function.spec.calls, world)


def of_api_gateway(world: World) -> Reach:
    """Return what the API gateway calls: the services that products lead to."""
    routes = (route for product in world.products.values() for route in product.spec.routes)
    return _known((r.to.service for r in routes if r.to.service is not None), world)


def _said(sidecar: Sidecar, world: World) -> Reach:
    hosts = [host for egress in sidecar.spec.egress for host in egress.hosts]
    named = {service_of(host, world.services) for host in hosts}
    return None if EVERY_HOST in named else _known((n for n in named if n is not None), world)


def _known(names: Iterable[str], world: World) -> frozenset[str]:
    return frozenset(name for name in names if name in world.services)
