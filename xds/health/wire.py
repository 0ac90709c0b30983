"""Health discovery messages to and from our values.

Source: https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/health/v3/hds.proto
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from wherry.protobuf import messages
from xds.health.check import Check, ClusterChecks, Endpoint, Grpc, Http, Place, Target, Tcp

SPEC = """
Int64Range(envoy.type.v3.Int64Range) start:i64=1 end:i64=2
Locality(envoy.config.core.v3.Locality) region:s=1 zone:s=2 sub_zone:s=3
Node(envoy.config.core.v3.Node) id:s=1 cluster:s=2
SocketAddress(envoy.config.core.v3.SocketAddress) address:s=2 port_value:u32=3@port_specifier
Address(envoy.config.core.v3.Address) socket_address:SocketAddress=1@address
HttpHealthCheck(envoy.config.core.v3.HealthCheck.HttpHealthCheck)
    host:s=1 path:s=2 expected_statuses:*Int64Range=9
TcpHealthCheck(envoy.config.core.v3.HealthCheck.TcpHealthCheck)
GrpcHealthCheck(envoy.config.core.v3.HealthCheck.GrpcHealthCheck) service_name:s=1 authority:s=2
HealthCheck(envoy.config.core.v3.HealthCheck)
    timeout:.google.protobuf.Duration=1 interval:.google.protobuf.Duration=2
    unhealthy_threshold:.google.protobuf.UInt32Value=4
    healthy_threshold:.google.protobuf.UInt32Value=5
    http_health_check:HttpHealthCheck=8@health_checker
    tcp_health_check:TcpHealthCheck=9@health_checker
    grpc_health_check:GrpcHealthCheck=11@health_checker
    no_traffic_interval:.google.protobuf.Duration=12
Endpoint(envoy.config.endpoint.v3.Endpoint) address:Address=1
LocalityEndpoints(envoy.service.health.v3.LocalityEndpoints) locality:Locality=1 endpoints:*Endpoint=2
ClusterHealthCheck(envoy.service.health.v3.ClusterHealthCheck)
    cluster_name:s=1 health_checks:*HealthCheck=2 locality_endpoints:*LocalityEndpoints=3
HealthCheckSpecifier(envoy.service.health.v3.HealthCheckSpecifier)
    cluster_health_checks:*ClusterHealthCheck=1 interval:.google.protobuf.Duration=2
HealthCheckRequest(envoy.service.health.v3.HealthCheckRequest) node:Node=1
EndpointHealth(envoy.service.health.v3.EndpointHealth) endpoint:Endpoint=1 health_status:enum=2
LocalityEndpointsHealth(envoy.service.health.v3.LocalityEndpointsHealth)
    locality:Locality=1 endpoints_health:*EndpointHealth=2
ClusterEndpointsHealth(envoy.service.health.v3.ClusterEndpointsHealth)
    cluster_name:s=1 locality_endpoints_health:*LocalityEndpointsHealth=2
EndpointHealthResponse(envoy.service.health.v3.EndpointHealthResponse)
    cluster_endpoints_health:*ClusterEndpointsHealth=2
HealthCheckRequestOrEndpointHealthResponse(envoy.service.health.v3.HealthCheckRequestOrEndpointHealthResponse)
    health_check_request:HealthCheckRequest=1@request_type
    endpoint_health_response:EndpointHealthResponse=2@request_type
"""  # noqa: E501
"""Fields that we read or write."""

MESSAGES = messages("wherry.xds.health", SPEC)

MAX_NAME = 1024
"""Most characters in one name of a report."""

_GOOD, _BAD = frozenset({1, 5}), frozenset({2, 3, 4})
"""HealthStatus: HEALTHY and DEGRADED; UNHEALTHY, DRAINING and TIMEOUT. UNKNOWN is no opinion."""


class BadHealth(WherryError):
    """What a client sent is no request for checks and no report."""


def message_from(raw: bytes) -> str | dict[Target, bool]:
    """Read a HealthCheckRequestOrEndpointHealthResponse.

    Returns:
        The node id of a request, or what a report says of each endpoint; True is healthy. One
        that stands several times, in several places, is healthy if it is in all. An Envoy that
        has nothing to check reports with an empty message.

    Raises:
        BadHealth: It is neither, or a name in it is too long.
    """
    try:
        message = MESSAGES["HealthCheckRequestOrEndpointHealthResponse"].FromString(raw)
    except DecodeError as error:
        raise BadHealth(
            f"health stream: {error}, expected a HealthCheckRequestOrEndpointHealthResponse"
        ) from None
    match message.WhichOneof("request_type"):
        case "health_check_request":
            return _bounded(message.health_check_request.node.id)
        case _:
            return _verdicts(message.endpoint_health_response)


def specifier_bytes(clusters: Iterable[ClusterChecks], *, report_seconds: float) -> bytes:
    """Return the HealthCheckSpecifier that asks for ``clusters`` and a report so often."""
    message = MESSAGES["HealthCheckSpecifier"]()
    message.interval.FromNanoseconds(round(report_seconds * 1e9))
    for cluster in clusters:
        asked = message.cluster_health_checks.add(cluster_name=cluster.cluster)
        for check in cluster.checks:
            _write_check(asked.health_checks.add(), check, cluster.cluster)
        places: defaultdict[Place, list[Endpoint]] = defaultdict(list)
        for endpoint, place in cluster.endpoints:
            places[place].append(endpoint)
        for (region, zone, sub_zone), endpoints in places.items():
            group = asked.locality_endpoints.add()
            group.locality.region, group.locality.zone = region, zone
            group.locality.sub_zone = sub_zone
            for endpoint in endpoints:
                where = group.endpoints.add().address.socket_address
                where.address, where.port_value = endpoint.address, endpoint.port
    return bytes(message.SerializeToString(deterministic=True))


def _write_check(message: Any, check: Check, cluster: str) -> None:
    message.timeout.FromNanoseconds(round(check.timeout_seconds * 1e9))
    message.interval.FromNanoseconds(round(check.interval_seconds * 1e9))
    message.no_traffic_interval.CopyFrom(message.interval)
    message.unhealthy_threshold.value = check.unhealthy_after
    message.healthy_threshold.value = check.healthy_after
    match check.by:
        case Http(path, host, statuses):
            message.http_health_check.path = path
            message.http_health_check.host = host or cluster
            for first, last in statuses:
                message.http_health_check.expected_statuses.add(start=first, end=last + 1)
        case Tcp():
            message.tcp_health_check.SetInParent()
        case Grpc(service, authority):
            message.grpc_health_check.service_name = service
            message.grpc_health_check.authority = authority or cluster


def _verdicts(message: Any) -> dict[Target, bool]:
    found: dict[Target, bool] = {}
    for cluster in message.cluster_endpoints_health:
        name = _bounded(cluster.cluster_name)
        for place in cluster.locality_endpoints_health:
            for each in place.endpoints_health:
                if each.health_status in _GOOD | _BAD:
                    where = each.endpoint.address.socket_address
                    target = (name, Endpoint(_bounded(where.address), where.port_value))
                    found[target] = found.get(target, True) and each.health_status in _GOOD
    return found


def _bounded(text: str) -> str:
    if len(text) > MAX_NAME:
        raise BadHealth(
            f"health stream: a name of {len(text)} characters, expected at most {MAX_NAME}"
        )
    return text
