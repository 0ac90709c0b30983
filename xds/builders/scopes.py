"""What kinds of clients there are, as their nodes say, and what is known beside the World."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from wherry.errors import WherryError
from xds.health.check import Target
from xds.workload import BadWorkload, Workload, checked_name

LOOPBACK = "127.0.0.1"
MAX_SOCKET_PATH = 107
"""Most bytes in the path of a unix socket."""

_WRITTEN_PORT = re.compile(r"[1-9][0-9]{0,4}").fullmatch


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


@dataclass(frozen=True, slots=True)
class ProxylessScope:
    """A gRPC client that speaks xDS itself and has no Envoy.

    Attributes:
        service: The service that its program is part of; empty for a client that is none.
    """

    service: str = ""


Scope = SidecarScope | GatewayScope | EgressScope | ProxylessScope


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the World.

    Attributes:
        workloads: Live registrations.
        functions: Names of deployed functions.
        telemetry: Host and port of the access log service.
        policy: Host and port of the check service.
        unhealthy: What checkers say is unhealthy, as `xds.builders.checks` named it to them.
    """

    workloads: tuple[Workload, ...]
    functions: frozenset[str]
    telemetry: tuple[str, int]
    policy: tuple[str, int]
    unhealthy: frozenset[Target] = frozenset()


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
        case "grpc":
            return ProxylessScope(read.name("service", "service") if "service" in metadata else "")
        case role:
            raise UnknownNode(node, f"role {role!r}", "sidecar, gateway, egress or grpc")


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


def socket_path(folder: str, function: str | None) -> str:
    """Return the egress socket of a function, or of the API gateway for None."""
    return f"{folder}/{'gateway' if function is None else f'fn-{function}'}.sock"
