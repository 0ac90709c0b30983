"""A large mesh, as a World: services with workloads, and routes to them."""

from wherry.model.resource import Resource
from wherry.model.route import Gateway, HTTPRoute
from wherry.model.service import Service
from wherry.model.world import FIELD, World
from xds.builders.scopes import GatewayScope, SidecarScope, Surroundings
from xds.workload import Workload

SIDECAR = SidecarScope("s1", "v1", 9000, 15006, 15001)
EDGE = GatewayScope("edge", ((80, 8080),))
_API = "gateway.networking.k8s.io/v1"


def service(number: int) -> Service:
    """Return service ``s`` and its number."""
    name = f"s{number}"
    return Service.model_validate(_written("v1", "Service", name, {"selector": {"app": name}}))


def route(number: int, services: int, turn: int = 0) -> HTTPRoute:
    """Return a route: each third is a gateway's, the others are calls inside the mesh."""
    name = f"s{number % services}"
    inside = {"group": "", "kind": "Service", "name": name}
    spec = {
        "parent_refs": [inside if number % 3 else {"name": "edge"}],
        "hostnames": [f"h{number}.example"],
        "rules": [
            {
                "matches": [{"path": {"value": f"/p{number}/{turn}"}}],
                "backend_refs": [{"name": name}],
            }
        ],
    }
    return HTTPRoute.model_validate(_written(_API, "HTTPRoute", f"r{number}", spec))


def mesh(services: int, routes: int) -> World:
    """Return a World of so many of both, and a gateway."""
    listeners = [{"name": "http", "port": 80}]
    spec = {"gateway_class_name": "wherry", "listeners": listeners}
    made: list[Resource] = [Gateway.model_validate(_written(_API, "Gateway", "edge", spec))]
    made += [service(number) for number in range(services)]
    made += [route(number, services) for number in range(routes)]
    held: dict[str, dict[str, Resource]] = {field: {} for field in FIELD.values()}
    for each in made:
        held[FIELD[type(each)]][each.name] = each
    return World(**held)


def around(services: int, each: int) -> Surroundings:
    """Return ``each`` workloads for every service."""
    alive = (
        Workload(f"i{j}", f"s{i}", "v1", f"127.0.{j}.1", 10_000 + i)
        for i in range(services)
        for j in range(each)
    )
    ordered = tuple(sorted(alive, key=lambda w: (w.service, w.id)))
    return Surroundings(ordered, frozenset(), ("127.0.0.1", 18002), ("127.0.0.1", 18001))


def _written(version: str, kind: str, name: str, spec: object) -> dict[str, object]:
    return {"api_version": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
