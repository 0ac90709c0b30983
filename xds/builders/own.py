"""What one client alone is told: where it listens, and the routes that are only its own."""

from collections.abc import Callable, Hashable, Iterator
from functools import partial

from xds.builders import clusters, listeners, routes
from xds.builders.access import bound, filters
from xds.builders.ingress import ingress_name
from xds.builders.listeners import Member
from xds.builders.messages import pipe_address, socket_address
from xds.builders.parts import Parts
from xds.builders.scopes import (
    LOOPBACK,
    MAX_SOCKET_PATH,
    EgressScope,
    GatewayScope,
    ProxylessScope,
    Scope,
    SidecarScope,
    socket_path,
)
from xds.builders.shares import Share, Way, way_out
from xds.resource import Resource
from xds.snapshot import Layer

GATEWAY_MEMBER = Member("gateway", "v1")
"""Who the API gateway is in the mesh."""


class Own:
    """The layer of one scope, and which shared layer goes with it.

    Attributes:
        share: What its shared layer holds.
        layer: What is told to this scope alone.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._seen: Hashable = None
        self._memory = _Memory()
        self.share = Share("sidecar")
        self.layer = Layer.of(())

    def update(self, parts: Parts) -> None:
        """Take the newest parts; costs a look where nothing of it changed."""
        seen = _seen(self._scope, parts)
        if seen == self._seen:
            return
        self.share, told = _told(self._scope, parts, self._memory)
        self._memory.forget()
        names = {(each.type_url, each.name) for each in told}
        held = [(t, n) for t, named in self.layer.by_type.items() for n in named]
        self.layer = self.layer.changed(told, [ref for ref in held if ref not in names])
        self._seen = seen


class _Memory:
    """Resources that need not be built again."""

    def __init__(self) -> None:
        self._before: dict[Hashable, Resource] = {}
        self._now: dict[Hashable, Resource] = {}

    def once(self, key: Hashable, build: Callable[[], Resource]) -> Resource:
        """Return what is known by ``key``, or else what ``build`` returns."""
        self._now[key] = self._before.get(key) or build()
        return self._now[key]

    def forget(self) -> None:
        """Drop what nobody asked for since the last time."""
        self._before, self._now = self._now, {}


def _seen(scope: Scope, parts: Parts) -> Hashable:
    """Return what changes whenever this scope may have to be told something else."""
    marks = parts.marks
    match scope:
        case SidecarScope():
            return marks.services, marks.reach, marks.access
        case GatewayScope():
            return marks.routes
        case EgressScope():
            return marks.services, marks.reach, marks.functions
        case ProxylessScope():
            return marks.services, marks.reach


def _told(scope: Scope, parts: Parts, memory: _Memory) -> tuple[Share, list[Resource]]:
    match scope:
        case SidecarScope():
            labels = {"app": scope.service, "version": scope.version}
            told = list(_sidecar(scope, labels, parts, memory))
            return Share("sidecar", reach=parts.sidecars.of_workload(labels)), told
        case GatewayScope():
            return Share("gateway", gateway=scope.name), list(_gateway(scope, parts, memory))
        case EgressScope():
            return Share("egress"), list(_egress(scope, parts, memory))
        case ProxylessScope():
            labels = {"app": scope.service} if scope.service else {}
            return Share("grpc", reach=parts.sidecars.of_workload(labels)), []


def _sidecar(
    scope: SidecarScope, labels: dict[str, str], parts: Parts, memory: _Memory
) -> Iterator[Resource]:
    member = Member(scope.service, scope.version)
    app = f"app/{scope.app_port}"
    name = f"inbound/{scope.service}/{scope.version}"
    rules = bound(parts.world, labels, parts.guarded)
    grpc = scope.service in parts.grpc
    yield memory.once(("app", grpc), lambda: clusters.app_cluster(app, scope.app_port, grpc=grpc))
    yield memory.once(
        (rules, grpc),
        lambda: routes.inbound(name, app, filters(rules), rules.sources, grpc=grpc),
    )
    inbound = socket_address(scope.address, scope.inbound_port)
    yield memory.once("inbound", lambda: listeners.serves("inbound", inbound, name, member))
    outbound = socket_address(LOOPBACK, scope.outbound_port)
    yield memory.once(
        "outbound",
        lambda: listeners.calls(
            "outbound", outbound, routes.OUTBOUND, member, scoped=True, edge=False
        ),
    )


def _gateway(scope: GatewayScope, parts: Parts, memory: _Memory) -> Iterator[Resource]:
    gateway = parts.world.gateways.get(scope.name)
    if gateway is None:
        return
    opened = dict(scope.ports)
    for port in sorted({listener.port for listener in gateway.spec.listeners}):
        scoped = parts.ingress(scope.name, port).scoped
        build = partial(_edge, scope, port, opened.get(port, port), scoped=scoped)
        yield memory.once((port, scoped), build)


def _edge(scope: GatewayScope, port: int, opened: int, *, scoped: bool) -> Resource:
    name = ingress_name(scope.name, port)
    address = socket_address(scope.address, opened)
    member = Member(scope.name, "v1")
    return listeners.calls(name, address, name, member, scoped=scoped, edge=True)


def _egress(scope: EgressScope, parts: Parts, memory: _Memory) -> Iterator[Resource]:
    """Yield a listener a member; those that may call everything share their routes."""
    for function in (None, *sorted(parts.around.functions)):
        path = socket_path(scope.folder, function)
        if len(path.encode()) <= MAX_SOCKET_PATH:
            way = way_out(parts, function)
            build = partial(_exit, path, way, function)
            yield memory.once((function, way.routes), build)


def _exit(path: str, way: Way, function: str | None) -> Resource:
    name = "egress/gateway" if function is None else f"egress/fn/{function}"
    member = GATEWAY_MEMBER if function is None else Member(function, "$LATEST")
    address = pipe_address(path)
    return listeners.calls(name, address, way.routes, member, scoped=way.scoped, edge=False)
