"""Services to clusters, and the workloads behind them to endpoints."""

from collections.abc import Container, Iterable, Mapping
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    HealthStatus,
    Http2ProtocolOptions,
    KeepaliveSettings,
    Locality,
    Metadata,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any, Struct, Value

from wherry.model.service import Service
from xds.builders.messages import METADATA, assembled, from_ads, packed, seconds, socket_address
from xds.encode import encode
from xds.resource import CLUSTER, ENDPOINT, Resource
from xds.workload import Workload

CONNECT_TIMEOUT = 1.0
"""Seconds that a connection to a workload may take."""

MAX_REQUESTS = 10_000
"""Most requests, connections and waiting requests to one cluster from one Envoy."""


EJECTED = 2.0
"""Seconds that an Envoy leaves an instance alone that it could not connect to, the first time."""


def service_cluster(service: Service, *, checked: bool = False) -> Resource:
    """Return the cluster of ``service``; its endpoints come by EDS.

    Args:
        service: What is called.
        checked: Whether its workloads are checked: one that is unhealthy gets nothing then, even
            if all are. Else an Envoy that knows few good ones goes on with all of them.
    """
    name = service.name
    body = assembled(
        Cluster, name=name, metadata=_known(service=service.spec.selector.get("app", name))
    )
    if service.spec.grpc:
        body += _http2_only()
    refs = frozenset({(ENDPOINT, name)})
    return Resource(CLUSTER, name, body + _manners(checked=checked), refs, sources=_made_from(name))


@cache
def _manners(*, checked: bool) -> bytes:
    """Return what all clusters of services have in common, those that are checked or not."""
    limits = CircuitBreakersThresholds(
        max_connections=MAX_REQUESTS,
        max_pending_requests=MAX_REQUESTS,
        max_requests=MAX_REQUESTS,
        max_retries=100,
    )
    message = Cluster(
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads()),
        connect_timeout=seconds(CONNECT_TIMEOUT),
        circuit_breakers=CircuitBreakers(thresholds=[limits]),
        outlier_detection=OutlierDetection(
            consecutive_5xx=0,
            enforcing_consecutive_5xx=0,
            consecutive_gateway_failure=0,
            enforcing_consecutive_gateway_failure=0,
            enforcing_success_rate=0,
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=2,
            enforcing_consecutive_local_origin_failure=100,
            base_ejection_time=seconds(EJECTED),
            interval=seconds(1),
            max_ejection_percent=100,
            max_ejection_time=seconds(EJECTED) if checked else None,
        ),
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0))
        if checked
        else None,
    )
    return encode(message)


def platform_cluster(name: str, host: str, port: int) -> Resource:
    """Return the cluster of one of Wherry's own gRPC services at a fixed address."""
    return _static(name, host, port, _over_http2())


def app_cluster(name: str, port: int, *, grpc: bool = False) -> Resource:
    """Return the cluster of the program beside a sidecar, on loopback.

    Args:
        name: The cluster's.
        port: Where the program listens.
        grpc: Whether it speaks gRPC, and so HTTP/2 alone.
    """
    return _static(name, "127.0.0.1", port, _over_http2() if grpc else {})


def _over_http2() -> dict[str, Any]:
    """Return the options of a cluster that speaks HTTP/2 alone, and notices a dead peer."""
    keepalive = KeepaliveSettings(interval=seconds(30), timeout=seconds(5))
    http2 = HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=Http2ProtocolOptions(connection_keepalive=keepalive)
    )
    return {_HTTP: packed(HttpProtocolOptions(explicit_http_config=http2))}


@cache
def _http2_only() -> bytes:
    return encode(Cluster(typed_extension_protocol_options=_over_http2()))


_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _static(name: str, host: str, port: int, options: Mapping[str, Any]) -> Resource:
    endpoint = LbEndpoint(endpoint=Endpoint(address=socket_address(host, port)))
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(CONNECT_TIMEOUT),
        typed_extension_protocol_options=dict(options),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
    return Resource(CLUSTER, name, encode(message))


def service_endpoints(
    name: str, workloads: Iterable[Workload], sick: Container[Workload] = ()
) -> Resource:
    """Return the endpoints of cluster ``name``; none at all is a valid answer.

    Args:
        name: The cluster's.
        workloads: What is behind it.
        sick: Those of them that shall get no requests.
    """
    endpoints = [
        _endpoint(w.address, w.port, w.service, w.version) + (_unhealthy() if w in sick else b"")
        for w in workloads
    ]
    body = assembled(ClusterLoadAssignment, cluster_name=name)
    if endpoints:
        locality = assembled(LocalityLbEndpoints, lb_endpoints=endpoints) + _nearby()
        body += assembled(ClusterLoadAssignment, endpoints=locality)
    return Resource(ENDPOINT, name, body, sources=_made_from(name))


@cache
def _nearby() -> bytes:
    return encode(LocalityLbEndpoints(locality=Locality(region="local"), load_balancing_weight=1))


@lru_cache(maxsize=1 << 16)
def _endpoint(address: str, port: int, service: str, version: str) -> bytes:
    where = encode(SocketAddress(address=address, port_value=port))
    endpoint = assembled(Endpoint, address=assembled(Address, socket_address=where))
    return assembled(
        LbEndpoint, endpoint=endpoint, metadata=_known(service=service, version=version)
    )


@cache
def _unhealthy() -> bytes:
    return encode(LbEndpoint(health_status=HealthStatus.UNHEALTHY))


@lru_cache(maxsize=1 << 12)
def _known(**values: str) -> bytes:
    fields = {key: Value(string_value=value) for key, value in values.items()}
    return encode(Metadata(filter_metadata={METADATA: Struct(fields=fields)}))


def _made_from(service: str) -> frozenset[tuple[str, str]]:
    return frozenset({("Service", service)})
