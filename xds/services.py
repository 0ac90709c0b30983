"""The discovery services of the protocol: one that carries every type, and one for each.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#rpc-services-and-methods-for-each-variant
"""

from dataclasses import dataclass

from xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    RUNTIME,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
    TypeUrl,
)


@dataclass(frozen=True, slots=True)
class DiscoveryService:
    """One gRPC service.

    Attributes:
        short: What people call it.
        name: Its full name.
        stream: Its state-of-the-world method; empty when it has none.
        delta: Its incremental method.
        fetch: Its method for one request and one response; empty when it has none.
        path: Where its REST variant is; empty when it has none.
        type_url: The one type that it carries; None: all of them.
    """

    short: str
    name: str
    stream: str
    delta: str
    fetch: str = ""
    path: str = ""
    type_url: TypeUrl | None = None


def _of(
    short: str, package: str, kind: str, methods: str, path: str, type_url: TypeUrl
) -> DiscoveryService:
    return DiscoveryService(
        short,
        f"envoy.service.{package}.v3.{kind}DiscoveryService",
        f"Stream{methods}",
        f"Delta{methods}",
        f"Fetch{methods}",
        f"/v3/discovery:{path}",
        type_url,
    )


AGGREGATED = DiscoveryService(
    "ads",
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
    "StreamAggregatedResources",
    "DeltaAggregatedResources",
)

SERVICES = (
    AGGREGATED,
    _of("cds", "cluster", "Cluster", "Clusters", "clusters", CLUSTER),
    _of("eds", "endpoint", "Endpoint", "Endpoints", "endpoints", ENDPOINT),
    _of("lds", "listener", "Listener", "Listeners", "listeners", LISTENER),
    _of("rds", "route", "Route", "Routes", "routes", ROUTE),
    _of("srds", "route", "ScopedRoutes", "ScopedRoutes", "scoped-routes", SCOPED_ROUTE),
    DiscoveryService(
        "vhds",
        "envoy.service.route.v3.VirtualHostDiscoveryService",
        "",
        "DeltaVirtualHosts",
        type_url=VIRTUAL_HOST,
    ),
    _of("sds", "secret", "Secret", "Secrets", "secrets", SECRET),
    _of("rtds", "runtime", "Runtime", "Runtime", "runtime", RUNTIME),
    _of("ecds", "extension", "ExtensionConfig", "ExtensionConfigs", "extension_configs", EXTENSION),
)

BY_PATH = {service.path: service for service in SERVICES if service.path}
"""The services that have a REST variant, by its path."""
