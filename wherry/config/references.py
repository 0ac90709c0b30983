"""Names that resources give each other: each must lead somewhere."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from wherry.config import catalogue
from wherry.config.document import Document, one_of
from wherry.config.lookup import Place, Wrong, missing
from wherry.config.probes import refusals
from wherry.errors import Problem
from wherry.model.access import AuthorizationPolicy, CheckPolicy
from wherry.model.function import Function
from wherry.model.health import HealthCheck
from wherry.model.resource import Resource
from wherry.model.route import Gateway, HTTPRoute
from wherry.model.service import Service, Workload
from wherry.model.sidecar import EVERY_HOST, Sidecar, service_of
from wherry.model.world import World


def dangling(
    world: World, written: Mapping[tuple[str, str], tuple[Document, Path]]
) -> Iterator[Problem]:
    """Yield a problem for each name that leads nowhere.

    Args:
        world: What was read.
        written: Document and folder of each resource by kind and name.
    """
    for resource in world.resources():
        document, folder = written[type(resource).__name__, resource.name]
        for path, found, expected in _wrong(resource, world, folder):
            yield document.problem(_written(resource, path, document), found, expected)
    for sidecar, found in _rivals(world):
        document, _ = written["Sidecar", sidecar.name]
        path = _written(sidecar, ("spec", "workloadSelector"), document)
        yield document.problem(path, found, "one sidecar for the same labels")
    for service, found in _spoken(world):
        document, _ = written["Service", service.name]
        place = ("spec", "ports", 0, "appProtocol")
        yield document.problem(place, found, "one for the same programs")
    for claimant, (path, found, expected) in catalogue.twice(world):
        document, _ = written[type(claimant).__name__, claimant.name]
        yield document.problem(path, found, expected)
    for check in world.health_checks.values():
        for found in refusals(check, world):
            document, _ = written["HealthCheck", check.name]
            path = _written(check, ("spec", "http", "path"), document)
            yield document.problem(path, found, "a rule that allows it")
        if check.spec.grpc is not None:
            for name in _beside_sidecars(check, world):
                document, _ = written["HealthCheck", check.name]
                found = (
                    f"health check {check.name!r}: grpc through the sidecar of workload {name!r}"
                )
                yield document.problem(
                    ("spec", "grpc"), found, "http, or a service with appProtocol: grpc"
                )


def _beside_sidecars(check: HealthCheck, world: World) -> Iterator[str]:
    """Yield the workloads that a check reaches through a sidecar."""
    service = world.services.get(check.spec.service)
    if service is not None and not service.spec.grpc:
        for workload in world.workloads.values():
            labels = {"app": workload.spec.service, "version": workload.spec.version}
            if service.spec.selector.items() <= labels.items():
                yield workload.name


def _rivals(world: World) -> Iterator[tuple[Sidecar, str]]:
    """Yield sidecars for the labels of an earlier one: it would be open which of them decides."""
    first: dict[frozenset[tuple[str, str]], Sidecar] = {}
    for sidecar in sorted(world.sidecars.values(), key=lambda s: s.name):
        labels = frozenset(sidecar.spec.workload_selector.labels.items())
        if (other := first.setdefault(labels, sidecar)) is not sidecar:
            whom = "the same workloads as" if labels else "all workloads, as"
            yield sidecar, f"sidecar {sidecar.name!r} for {whom} {other.name!r}"


def _spoken(world: World) -> Iterator[tuple[Service, str]]:
    """Yield services that speak otherwise to the programs of an earlier one: a sidecar cannot."""
    first: dict[str, Service] = {}
    for service in sorted(world.services.values(), key=lambda each: each.name):
        app = service.spec.selector.get("app")
        other = service if app is None else first.setdefault(app, service)
        if other.spec.grpc != service.spec.grpc:
            mine, theirs = (each.spec.ports[0].app_protocol for each in (service, other))
            yield (
                service,
                f"service {service.name!r} with appProtocol {mine}, {other.name!r} with {theirs}",
            )


def _written(resource: Resource, path: Place, document: Document) -> Place:
    """Return where ``path`` was written, if it was in the short form."""
    if "services" not in _fields(document):
        return path
    if isinstance(resource, HealthCheck):
        return ("services", resource.name, "health")
    if not isinstance(resource, Sidecar):
        return path
    labels = resource.spec.workload_selector.labels
    place: Place = ("services", labels["app"])
    if "version" in labels:
        place = (*place, "versions", labels["version"])
    return (*place, "calls", path[-1])


def _fields(document: Document) -> Mapping[str, object]:
    return document.data if isinstance(document.data, dict) else {}


def _wrong(resource: Resource, world: World, folder: Path) -> Iterator[Wrong]:
    match resource:
        case Gateway():
            yield from _gateway(resource)
        case HTTPRoute():
            yield from _route(resource, world)
        case Workload() | HealthCheck():
            yield from missing("service", resource.spec.service, world.services, "spec", "service")
        case CheckPolicy():
            yield from _checked(resource, world)
        case AuthorizationPolicy():
            labels, place = resource.spec.selector.match_labels, ("selector", "matchLabels")
            yield from _selector(labels, world, "spec", *place)
        case Sidecar():
            yield from _sidecar(resource, world)
        case Function():
            yield from _function(resource, world, folder)
        case _:
            yield from catalogue.wrong(resource, world, folder)


def _gateway(gateway: Gateway) -> Iterator[Wrong]:
    """Listeners need names of their own, and a port and host name that no other one has.

    Source: https://gateway-api.sigs.k8s.io/reference/spec/#gatewayspec (distinct listeners)
    """
    names: set[str] = set()
    places: set[tuple[int, str | None]] = set()
    for i, listener in enumerate(gateway.spec.listeners):
        path = ("spec", "listeners", i)
        if listener.name in names:
            found = f"listener {listener.name!r} a second time"
            yield (*path, "name"), found, "each name once per gateway"
        elif (listener.port, listener.hostname) in places:
            host = f"host {listener.hostname!r}" if listener.hostname else "no host name"
            found = f"listener {listener.name!r} with port {listener.port} and {host}, as another"
            yield (*path, "port"), found, "each port and hostname once per gateway"
        names.add(listener.name)
        places.add((listener.port, listener.hostname))


def _route(route: HTTPRoute, world: World) -> Iterator[Wrong]:
    for i, parent in enumerate(route.spec.parent_refs):
        path = ("spec", "parentRefs", i)
        if parent.kind == "Service":
            yield from missing("service", parent.name, world.services, *path, "name")
            continue
        yield from missing("gateway", parent.name, world.gateways, *path, "name")
        if parent.section_name and (gateway := world.gateways.get(parent.name)):
            names = {listener.name: listener for listener in gateway.spec.listeners}
            yield from missing("listener", parent.section_name, names, *path, "sectionName")
    for i, rule in enumerate(route.spec.rules):
        for j, backend in enumerate(rule.backend_refs):
            place = ("spec", "rules", i, "backendRefs", j)
            yield from missing("service", backend.name, world.services, *place, "name")
            yield from _port(backend.name, backend.port, world.services, (*place, "port"))


def _port(
    name: str, port: int | None, services: Mapping[str, Service], path: Place
) -> Iterator[Wrong]:
    service = services.get(name)
    if service and port not in {None, *(p.port for p in service.spec.ports)}:
        ports = ", ".join(str(p.port) for p in service.spec.ports)
        yield path, f"service {name!r} has no port {port}", ports


def _checked(policy: CheckPolicy, world: World) -> Iterator[Wrong]:
    """A sidecar asks by the name it registered for: for all versions, or for none."""
    apps = _apps(world)
    for i, name in enumerate(policy.spec.services):
        path = ("spec", "services", i)
        if name in world.services and name not in apps:
            app = world.services[name].spec.selector.get("app", "")
            found = f"service {name!r}, for whose name no program registers"
            yield path, found, one_of(sorted(apps), app)
        else:
            yield from missing("service", name, apps, *path)


def _apps(world: World) -> Mapping[str, Service]:
    """Return the names that programs register for, as services select them."""
    services = world.services.values()
    return {s.spec.selector["app"]: s for s in services if "app" in s.spec.selector}


def _function(function: Function, world: World, folder: Path) -> Iterator[Wrong]:
    for i, name in enumerate(function.spec.calls or ()):
        yield from missing("service", name, world.services, "spec", "calls", i)
    code = function.spec.code
    if code is not None and not (folder / code).is_dir():
        yield ("spec", "code"), f"no folder {code!r}", "a folder of code"
    for i, layer in enumerate(function.spec.layers):
        if not layer.startswith("arn:") and not (folder / layer).is_dir():
            yield ("spec", "layers", i), f"no folder {layer!r}", "a folder or an ARN"


def _selector(labels: Mapping[str, str], world: World, *place: str) -> Iterator[Wrong]:
    """A label that no sidecar has would select none, and the rules would stand for nothing."""
    for label, value in labels.items():
        path = (*place, label)
        if label == "app":
            yield from missing("service", value, _apps(world), *path)
        elif label != "version":
            yield path, f"label {label!r}, which no program has", "'app' or 'version'"


def _sidecar(sidecar: Sidecar, world: World) -> Iterator[Wrong]:
    labels = sidecar.spec.workload_selector.labels
    yield from _selector(labels, world, "spec", "workloadSelector", "labels")
    for i, egress in enumerate(sidecar.spec.egress):
        for j, host in enumerate(egress.hosts):
            name = service_of(host, world.services)
            if name not in {None, EVERY_HOST}:
                path = ("spec", "egress", i, "hosts", j)
                yield from missing("service", name, world.services, *path)
