"""Listeners: where an Envoy accepts requests, what it does to each, and what it reports.

They name their routes instead of holding them, and the access rules are settings of routes, so
that a listener stays byte-identical, and its connections stay open, while traffic rules change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    ResponseFlagFilter,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    HttpProtocolOptions,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    LocalReplyConfig,
    Rds,
    ResponseMapper,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation,
)
from envoy_data_plane.envoy.type.metadata.v3 import (
    MetadataKey,
    MetadataKeyPathSegment,
    MetadataKind,
    MetadataKindHost,
)
from envoy_data_plane.envoy.type.tracing.v3 import (
    CustomTag,
    CustomTagHeader,
    CustomTagLiteral,
    CustomTagMetadata,
)
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

from xds.builders.access import ALLOW, CHECK, DENY
from xds.builders.messages import (
    CUT,
    METADATA,
    SOURCE_HEADER,
    SOURCE_VERSION_HEADER,
    UNREACHED,
    UNSERVED_HEADER,
    from_ads,
    grpc_service,
    packed,
    seconds,
)
from xds.encode import encode
from xds.resource import CLUSTER, LISTENER, ROUTE, Resource

TELEMETRY, POLICY = "wherry/telemetry", "wherry/policy"
"""Clusters of Wherry's own services; no service's name holds a slash."""

CHECK_TIMEOUT = 1.0
"""Seconds that a check may take; then the request is refused."""

FLUSH = 0.2
"""Seconds that an access log entry waits at most."""

_ESCAPED = HttpConnectionManagerPathWithEscapedSlashesAction
_OVERWRITE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


@dataclass(frozen=True, slots=True)
class Member:
    """Who an Envoy speaks for: a version of a service, a gateway or a function."""

    service: str
    version: str


def calls(name: str, address: Address, routes: str, member: Member, *, edge: bool) -> Resource:
    """Return a listener for requests that ``member`` sends into the mesh.

    Args:
        name: The listener's name.
        address: Where it listens.
        routes: Name of its route configuration.
        member: Written into each request as its source, over anything a client wrote there.
        edge: Whether clients are outside of the mesh: their address is the connection's, and
            paths with escaped slashes are refused.
    """
    tags = [
        _literal("reporter", "source"),
        _literal("source", member.service),
        _literal("source_version", member.version),
        CustomTag(tag="destination", value=f"%METADATA(CLUSTER:{METADATA}:service)%"),
        _of_host("destination_version", "version"),
    ]
    mutation = HeaderMutation(
        mutations=[
            _overwriting(SOURCE_HEADER, member.service),
            _overwriting(SOURCE_VERSION_HEADER, member.version),
        ]
    )
    manager = _manager(
        name,
        routes,
        tags,
        [_router()],
        escaped=_ESCAPED.REJECT_REQUEST if edge else _ESCAPED.KEEP_UNCHANGED,
    )
    manager.use_remote_address = edge
    manager.early_header_mutation_extensions = [
        TypedExtensionConfig(
            name="envoy.http.early_header_mutation.header_mutation", typed_config=packed(mutation)
        )
    ]
    return _listener(name, address, manager, routes, [TELEMETRY])


def serves(name: str, address: Address, routes: str, member: Member) -> Resource:
    """Return a listener for requests to the program beside a sidecar.

    Access rules arrive with the routes; the check service is asked only where they say so.
    """
    tags = [
        _literal("reporter", "destination"),
        _of_request("source", SOURCE_HEADER),
        _of_request("source_version", SOURCE_VERSION_HEADER),
        _literal("destination", member.service),
        _literal("destination_version", member.version),
    ]
    check = ExtAuthz(
        grpc_service=grpc_service(POLICY, timeout=CHECK_TIMEOUT),
        transport_api_version=ApiVersion.V3,
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        stat_prefix="wherry",
    )
    filters = [
        HttpFilter(name=DENY, typed_config=packed(Rbac())),
        HttpFilter(name=ALLOW, typed_config=packed(Rbac())),
        HttpFilter(name=CHECK, typed_config=packed(check), disabled=True),
        _router(),
    ]
    manager = _manager(name, routes, tags, filters, escaped=_ESCAPED.REJECT_REQUEST)
    manager.local_reply_config = LocalReplyConfig(
        mappers=[_saying(UNREACHED, "UF"), _saying(CUT, "UC")]
    )
    return _listener(name, address, manager, routes, [TELEMETRY, POLICY])


def _saying(why: str, flag: str) -> ResponseMapper:
    """Return what adds `UNSERVED_HEADER` to Envoy's own answers with this response flag."""
    header = HeaderValue(key=UNSERVED_HEADER, value=why)
    return ResponseMapper(
        filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[flag])),
        headers_to_add=[HeaderValueOption(header=header, append_action=_OVERWRITE)],
    )


def _manager(
    name: str,
    routes: str,
    tags: Sequence[CustomTag],
    filters: Sequence[HttpFilter],
    *,
    escaped: _ESCAPED,
) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix=name.replace("/", "_"),
        rds=Rds(config_source=from_ads(), route_config_name=routes),
        http_filters=list(filters),
        access_log=[_access_log(name, tags)],
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=escaped,
        max_request_headers_kb=60,
        request_headers_timeout=seconds(10),
        stream_idle_timeout=seconds(300),
        common_http_protocol_options=HttpProtocolOptions(
            max_headers_count=100, idle_timeout=seconds(300)
        ),
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
        strip_trailing_host_dot=True,
    )


def _listener(
    name: str,
    address: Address,
    manager: HttpConnectionManager,
    routes: str,
    clusters: Sequence[str],
) -> Resource:
    network = Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)
    )
    message = Listener(
        name=name,
        address=address,
        filter_chains=[FilterChain(filters=[network])],
        per_connection_buffer_limit_bytes=1 << 18,
    )
    refs = frozenset({(ROUTE, routes), *((CLUSTER, cluster) for cluster in clusters)})
    return Resource(LISTENER, name, encode(message), refs)


def _overwriting(header: str, value: str) -> Mutation:
    pair = HeaderValue(key=header, value=value)
    return Mutation(append=HeaderValueOption(header=pair, append_action=_OVERWRITE))


def _router() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router()))


def _access_log(name: str, tags: Sequence[CustomTag]) -> AccessLog:
    common = CommonGrpcAccessLogConfig(
        log_name=name,
        grpc_service=grpc_service(TELEMETRY, timeout=0),
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=seconds(FLUSH),
        custom_tags=list(tags),
    )
    config = HttpGrpcAccessLogConfig(
        common_config=common, additional_request_headers_to_log=["content-type"]
    )
    return AccessLog(name="envoy.access_loggers.http_grpc", typed_config=packed(config))


def _literal(tag: str, value: str) -> CustomTag:
    return CustomTag(tag=tag, literal=CustomTagLiteral(value=value))


def _of_request(tag: str, header: str) -> CustomTag:
    return CustomTag(tag=tag, request_header=CustomTagHeader(name=header, default_value="unknown"))


def _of_host(tag: str, key: str) -> CustomTag:
    path = MetadataKey(key=METADATA, path=[MetadataKeyPathSegment(key=key)])
    host = MetadataKind(host=MetadataKindHost())
    metadata = CustomTagMetadata(kind=host, metadata_key=path, default_value="unknown")
    return CustomTag(tag=tag, metadata=metadata)
