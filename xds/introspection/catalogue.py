"""Every service that may stand on the Pilot's port, as its ``.proto`` file declares it.

Source: https://github.com/envoyproxy/envoy/tree/v1.40.0/api/envoy/service
"""

from collections.abc import Iterable
from dataclasses import replace

import grpc

import xds.csds.server
import xds.csds.wire
import xds.health.server
import xds.health.wire
import xds.heartbeat
import xds.load.server
import xds.load.wire
import xds.wire
from xds.introspection import wire
from xds.introspection.descriptors import Method, Service
from xds.services import SERVICES as DISCOVERY
from xds.services import DiscoveryService

_E = "envoy.service."
_D = _E + "discovery.v3."

TABLES = (
    xds.wire.MESSAGES,
    xds.load.wire.MESSAGES,
    xds.health.wire.MESSAGES,
    xds.csds.wire.MESSAGES,
    wire.HEALTH,
    wire.REFLECTION,
    wire.REFLECTION_ALPHA,
)
"""Messages of all of them."""


def _discovery(service: DiscoveryService) -> Service:
    sotw = (_D + "DiscoveryRequest", _D + "DiscoveryResponse")
    changes = (_D + "DeltaDiscoveryRequest", _D + "DeltaDiscoveryResponse")
    methods = (
        Method(service.stream, *sotw, client_streams=True, server_streams=True),
        Method(service.delta, *changes, client_streams=True, server_streams=True),
        Method(service.fetch, *sotw),
    )
    return Service(service.name, tuple(method for method in methods if method.name))


def _reflection(package: str) -> Service:
    method = Method(
        "ServerReflectionInfo",
        f"{package}.ServerReflectionRequest",
        f"{package}.ServerReflectionResponse",
        client_streams=True,
        server_streams=True,
    )
    return Service(f"{package}.ServerReflection", (method,))


_STATUS = (_E + "status.v3.ClientStatusRequest", _E + "status.v3.ClientStatusResponse")
_HEALTH = ("grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse")

SERVICES = (
    *map(_discovery, DISCOVERY),
    Service(
        xds.load.server.SERVICE,
        (
            Method(
                "StreamLoadStats",
                _E + "load_stats.v3.LoadStatsRequest",
                _E + "load_stats.v3.LoadStatsResponse",
                client_streams=True,
                server_streams=True,
            ),
        ),
    ),
    Service(
        xds.health.server.SERVICE,
        (
            Method(
                "StreamHealthCheck",
                _E + "health.v3.HealthCheckRequestOrEndpointHealthResponse",
                _E + "health.v3.HealthCheckSpecifier",
                client_streams=True,
                server_streams=True,
            ),
        ),
    ),
    Service(
        xds.csds.server.SERVICE,
        (
            Method("StreamClientStatus", *_STATUS, client_streams=True, server_streams=True),
            Method("FetchClientStatus", *_STATUS),
        ),
    ),
    Service(
        xds.heartbeat.SERVICE,
        (
            Method("Register", "wherry.xds.RegisterRequest", "wherry.xds.RegisterResponse"),
            Method("Deregister", "wherry.xds.DeregisterRequest", "wherry.xds.DeregisterResponse"),
        ),
    ),
    Service(
        "grpc.health.v1.Health",
        (
            Method("Check", *_HEALTH),
            Method("List", "grpc.health.v1.HealthListRequest", "grpc.health.v1.HealthListResponse"),
            Method("Watch", *_HEALTH, server_streams=True),
        ),
    ),
    _reflection("grpc.reflection.v1"),
    _reflection("grpc.reflection.v1alpha"),
)
"""All that are known; `served` keeps those that a server has."""


def served(handlers: Iterable[grpc.GenericRpcHandler]) -> tuple[Service, ...]:
    """Return the services, and of each the methods, that ``handlers`` answer.

    Raises:
        ValueError: A handler is for a service that is not in `SERVICES`.
    """
    given = tuple(handlers)
    known = {service.name for service in SERVICES}
    for handler in given:
        if isinstance(handler, grpc.ServiceRpcHandler) and handler.service_name() not in known:
            raise ValueError(f"service {handler.service_name()}: unknown, expected one of SERVICES")
    found = (
        replace(service, methods=tuple(m for m in service.methods if _answers(given, service, m)))
        for service in SERVICES
    )
    return tuple(service for service in found if service.methods)


def _answers(handlers: Iterable[grpc.GenericRpcHandler], service: Service, method: Method) -> bool:
    call = _Call(f"/{service.name}/{method.name}")
    return any(handler.service(call) is not None for handler in handlers)


class _Call(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()
