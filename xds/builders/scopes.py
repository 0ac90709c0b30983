"""What kinds of Envoy there are, and everything that each of them is told."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from wherry.errors import WherryError
from wherry.model.world import World
from xds.builders import clusters, listeners, routes
from xds.builders.access import filters
from xds.builders.listeners import POLICY, TELEMETRY, Member
from xds.builders.messages import pipe_address, socket_address
from xds.resource import Resource
from xds.snapshot import Snapshot
from xds.workload import BadWorkload, Workload, checked_name

LOOPBACK = "127.0.0.1"
MAX_SOCKET_PATH = 107
"""Most bytes in the path of a unix socket."""

_WRITTEN_PORT = re.compile(r"[1-9][0-9]{0,4}").fullmatch

GATEWAY_MEMBER = Member("gateway", "v1")
"""Who the API gateway is in the mesh."""


class UnknownNode(WherryError):
    """A node's metadata does not say what it is."""

    def __init__(self, node: str, found: str, expected: str) -> None:
        super().__init__(f"node {node!r}: {found}, expected {expected}")
        self.node = node


@dataclass(frozen=True, slots=True)
class SidecarScope:
    """An Envoy beside one workload.

    Attributes:
        app_port: Where the program listens.
        inbound_port: Where the Envoy takes requests for it.
        outbound_port: Where the Envoy is the program's HTTP proxy, on loopback.
        address: IP address at which the Envoy takes requests.
    """

    service: str
    version: str
    app_port: int
    inbound_port: int
    outbound_port: int
    address: str = LOOPBACK


@dataclass(frozen=True, slots=True)
class GatewayScope:
    """An Envoy at the edge.

    Attributes:
        name: The `Gateway` it runs.
        ports: Listener's port as written, and the port it opens in fact.
        address: IP address at which it listens.
    """

    name: str
    ports: tuple[tuple[int, int], ...]
    address: str = LOOPBACK


@dataclass(frozen=True, slots=True)
class EgressScope:
    """The Envoy through which functions and the API gateway reach the mesh.

    Attributes:
        folder: Absolute folder for its unix sockets: ``gateway.sock`` and ``fn-NAME.sock``.
    """

    folder: str


Scope = SidecarScope | GatewayScope | EgressScope


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the World.

    Attributes:
        workloads: Live registrations.
        functions: Names of deployed functions.
        telemetry: Host and port of the access log service.
        policy: Host and port of the check service.
    """

    workloads: tuple[Workload, ...]
    functions: frozenset[str]
    telemetry: tuple[str, int]
    policy: tuple[str, int]


def scope_of(node: str, metadata: Mapping[str, object]) -> Scope:
    """Read a node's metadata.

    Raises:
        UnknownNode: ``role`` is none of ours, or what it needs is missing or out of range.
    """
    read = _Metadata(node, metadata)
    match metadata.get("role"):
        case "sidecar":
            return SidecarScope(
                read.name("service", "service"),
                read.name("version", "version"),
                read.port("app_port"),
                read.port("inbound_port"),
                read.port("outbound_port"),
                read.address("address"),
            )
        case "gateway":
            return GatewayScope(
                read.name("gateway", "service"), read.ports("ports"), read.address("address")
            )
        case "egress":
            return EgressScope(read.folder("sockets"))
        case role:
            raise UnknownNode(node, f"role {role!r}", "sidecar, gateway or egress")


@dataclass(frozen=True, slots=True)
class _Metadata:
    node: str
    values: Mapping[str, object]

    def name(self, key: str, form: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str):
            raise UnknownNode(self.node, f"metadata {key}: {value!r}", "a name")
        try:
            return checked_name(form, value)
        except BadWorkload as error:
            expected = str(error).partition("expected ")[2]
            raise UnknownNode(self.node, f"metadata {key}: {value[:64]!r}", expected) from None

    def port(self, key: str) -> int:
        return self._port(key, self.values.get(key))

    def _port(self, key: str, value: object) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < 1 << 16
            or value != int(value)
        ):
            raise UnknownNode(self.node, f"metadata {key}: {value!r}", "a port")
        return int(value)

    def ports(self, key: str) -> tuple[tuple[int, int], ...]:
        value = self.values.get(key)
        if not isinstance(value, Mapping) or not all(map(_WRITTEN_PORT, value)):
            raise UnknownNode(self.node, f"metadata {key}: {value!r}", "ports by port")
        return tuple(sorted((int(p), self._port(key, to)) for p, to in value.items()))

    def address(self, key: str) -> str:
        value = self.values.get(key, LOOPBACK)
        try:
            return str(ipaddress.ip_address(str(value)))
        except ValueError:
            raise UnknownNode(self.node, f"metadata {key}: {value!r}", "an IP address") from None

    def folder(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not PurePosixPath(value).is_absolute():
            raise UnknownNode(self.node, f"metadata {key}: {value!r}", "an absolute folder")
        return value


def snapshot(scope: Scope, world: World, around: Surroundings) -> Snapshot:
    """Return everything that an Envoy of ``scope`` is told."""
    return Snapshot.of([*_shared(world, around), *_own(scope, world, around)])


def socket_path(folder: str, function: str | None) -> str:
    """Return the egress socket of a function, or of the API gateway for None."""
    return f"{folder}/{'gateway' if function is None else f'fn-{function}'}.sock"


def _shared(world: World, around: Surroundings) -> Iterator[Resource]:
    yield from _of_world(_Same(world))
    yield clusters.platform_cluster(TELEMETRY, *around.telemetry)
    yield clusters.platform_cluster(POLICY, *around.policy)
    for name, service in world.services.items():
        yield _endpoints(name, clusters.selected(service, around.workloads))


def _own(scope: Scope, world: World, around: Surroundings) -> Iterator[Resource]:
    match scope:
        case SidecarScope():
            yield from _sidecar(scope, world)
        case GatewayScope():
            yield from _gateway(scope, world)
        case EgressScope():
            yield from _egress(scope, around.functions)


def _sidecar(scope: SidecarScope, world: World) -> Iterator[Resource]:
    member = Member(scope.service, scope.version)
    app = f"app/{scope.app_port}"
    name = f"inbound/{scope.service}/{scope.version}"
    labels = {"app": scope.service, "version": scope.version}
    yield clusters.app_cluster(app, scope.app_port)
    yield routes.inbound(name, app, filters(world, labels))
    inbound = socket_address(scope.address, scope.inbound_port)
    yield listeners.serves("inbound", inbound, name, member)
    outbound = socket_address(LOOPBACK, scope.outbound_port)
    yield listeners.calls("outbound", outbound, routes.OUTBOUND, member, edge=False)


def _gateway(scope: GatewayScope, world: World) -> Iterator[Resource]:
    gateway = world.gateways.get(scope.name)
    if gateway is None:
        return
    opened = dict(scope.ports)
    member = Member(gateway.name, "v1")
    for port in sorted({listener.port for listener in gateway.spec.listeners}):
        yield routes.ingress(world, gateway, port)
        address = socket_address(scope.address, opened.get(port, port))
        name = routes.ingress_name(gateway.name, port)
        yield listeners.calls(name, address, name, member, edge=True)


def _egress(scope: EgressScope, functions: Iterable[str]) -> Iterator[Resource]:
    members: list[tuple[str | None, Member]] = [(None, GATEWAY_MEMBER)]
    members += [(name, Member(name, "$LATEST")) for name in sorted(functions)]
    for function, member in members:
        path = socket_path(scope.folder, function)
        if len(path.encode()) <= MAX_SOCKET_PATH:
            name = "egress/gateway" if function is None else f"egress/fn/{function}"
            yield listeners.calls(name, pipe_address(path), routes.OUTBOUND, member, edge=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A World as a cache key: the very same object, not an equal one."""

    world: World

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.world is other.world

    def __hash__(self) -> int:
        return id(self.world)


@lru_cache(maxsize=2)
def _of_world(same: _Same) -> tuple[Resource, ...]:
    world = same.world
    return (routes.outbound(world), *map(clusters.service_cluster, world.services.values()))


@lru_cache(maxsize=1 << 14)
def _endpoints(name: str, workloads: tuple[Workload, ...]) -> Resource:
    return clusters.service_endpoints(name, workloads)
