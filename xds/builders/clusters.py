"""Services to clusters, and the workloads behind them to endpoints."""

from collections.abc import Iterable, Mapping

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Http2ProtocolOptions,
    KeepaliveSettings,
    Locality,
    Metadata,
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
from envoy_data_plane.google.protobuf import Any, Struct, Value

from wherry.model.service import Service
from xds.builders.messages import METADATA, from_ads, packed, seconds, socket_address
from xds.encode import encode
from xds.resource import CLUSTER, ENDPOINT, Resource
from xds.workload import Workload

CONNECT_TIMEOUT = 1.0
"""Seconds that a connection to a workload may take."""

MAX_REQUESTS = 10_000
"""Most requests, connections and waiting requests to one cluster from one Envoy."""


def service_cluster(service: Service) -> Resource:
    """Return the cluster of ``service``; its endpoints come by EDS."""
    name = service.name
    limits = CircuitBreakersThresholds(
        max_connections=MAX_REQUESTS,
        max_pending_requests=MAX_REQUESTS,
        max_requests=MAX_REQUESTS,
        max_retries=100,
    )
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads()),
        connect_timeout=seconds(CONNECT_TIMEOUT),
        metadata=_known(service=service.spec.selector.get("app", name)),
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
            base_ejection_time=seconds(2),
            interval=seconds(1),
            max_ejection_percent=100,
        ),
    )
    return Resource(CLUSTER, name, encode(message), frozenset({(ENDPOINT, name)}))


def platform_cluster(name: str, host: str, port: int) -> Resource:
    """Return the cluster of one of Wherry's own gRPC services at a fixed address."""
    keepalive = KeepaliveSettings(interval=seconds(30), timeout=seconds(5))
    http2 = HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=Http2ProtocolOptions(connection_keepalive=keepalive)
    )
    return _static(
        name, host, port, {_HTTP: packed(HttpProtocolOptions(explicit_http_config=http2))}
    )


def app_cluster(name: str, port: int) -> Resource:
    """Return the cluster of the program beside a sidecar, on loopback."""
    return _static(name, "127.0.0.1", port, {})


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


def selected(service: Service, workloads: Iterable[Workload]) -> tuple[Workload, ...]:
    """Return the workloads that ``service`` selects, in the order of their ids."""
    wanted = service.spec.selector.items()
    return tuple(sorted((w for w in workloads if wanted <= w.labels.items()), key=lambda w: w.id))


def service_endpoints(name: str, workloads: Iterable[Workload]) -> Resource:
    """Return the endpoints of cluster ``name``; none at all is a valid answer."""
    endpoints = [_endpoint(workload) for workload in workloads]
    locality = LocalityLbEndpoints(
        locality=Locality(region="local"), load_balancing_weight=1, lb_endpoints=endpoints
    )
    message = ClusterLoadAssignment(cluster_name=name, endpoints=[locality] if endpoints else [])
    return Resource(ENDPOINT, name, encode(message))


def _endpoint(workload: Workload) -> LbEndpoint:
    return LbEndpoint(
        endpoint=Endpoint(address=socket_address(workload.address, workload.port)),
        metadata=_known(service=workload.service, version=workload.version),
    )


def _known(**values: str) -> Metadata:
    fields = {key: Value(string_value=value) for key, value in values.items()}
    return Metadata(filter_metadata={METADATA: Struct(fields=fields)})
