"""Listeners: where an Envoy accepts requests, what it does to each, and what it reports.

They name their routes instead of holding them, and the access rules are settings of routes, so
that a listener stays byte-identical, and its connections stay open, while traffic rules change.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    ResponseFlagFilter,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    DataSource,
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
from envoy_data_plane.envoy.extensions.http.original_ip_detection.custom_header.v3 import (
    CustomHeaderConfig,
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

from xds.bootstrap import FLUSH
from xds.builders.access import ALLOW, CHECK, DENY
from xds.builders.messages import (
    ADDRESS_HEADER,
    CUT,
    METADATA,
    SCOPE_HEADER,
    SOURCE_HEADER,
    SOURCE_VERSION_HEADER,
    UNREACHED,
    UNSERVED_HEADER,
    assembled,
    from_ads,
    grpc_service,
    packed,
    seconds,
    wrapped,
)
from xds.builders.scoped import by_scope, in_lower_case, key_of_requests
from xds.encode import encode
from xds.resource import CLUSTER, LISTENER, ROUTE, Resource

TELEMETRY, POLICY = "wherry/telemetry", "wherry/policy"
"""Clusters of Wherry's own services; no service's name holds a slash."""

CHECK_TIMEOUT = 1.0
"""Seconds that a check may take; then the request is refused."""

_PEER = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
_DETECTION = "envoy.http.original_ip_detection.custom_header"
_ESCAPED = HttpConnectionManagerPathWithEscapedSlashesAction
_OVERWRITE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


@dataclass(frozen=True, slots=True)
class Member:
    """Who an Envoy speaks for: a version of a service, a gateway or a function."""

    service: str
    version: str


def calls(
    name: str, address: Address, routes: str, member: Member, *, scoped: bool, edge: bool
) -> Resource:
    """Return a listener for requests that ``member`` sends into the mesh.

    Args:
        name: The listener's name.
        address: Where it listens.
        routes: Name of its route configuration, or of its table of scopes.
        member: Written into each request as its source, over anything a client wrote there.
        scoped: Whether it has a table of scopes, see `xds.builders.scoped`.
        edge: Whether clients are outside of the mesh: their address is the connection's, and
            paths with escaped slashes are refused. Elsewhere a host name that is no service's is
            answered 502 instead of 404.
    """
    tags = [
        _literal("reporter", "source"),
        _literal("source", member.service),
        _literal("source_version", member.version),
        assembled(CustomTag, tag="destination", value=f"%METADATA(CLUSTER:{METADATA}:service)%"),
        _of_host("destination_version", "version"),
    ]
    mutations = [
        _overwriting(SOURCE_HEADER, member.service),
        _overwriting(SOURCE_VERSION_HEADER, member.version),
        _overwriting(ADDRESS_HEADER, _PEER) if edge else assembled(Mutation, remove=ADDRESS_HEADER),
    ]
    if scoped:
        mutations.append(_overwriting(SCOPE_HEADER, key_of_requests(routes)))
    early = assembled(
        TypedExtensionConfig,
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=wrapped(HeaderMutation, assembled(HeaderMutation, mutations=mutations)),
    )
    manager = assembled(HttpConnectionManager, early_header_mutation_extensions=early)
    manager += by_scope() if scoped else _by_name(routes)
    manager += _manager(name, tags) + _calling(scoped=scoped, edge=edge)
    held = () if scoped else (routes,)
    return _listener(name, address, manager, held, [TELEMETRY])


@cache
def _calling(*, scoped: bool, edge: bool) -> bytes:
    escaped = _ESCAPED.REJECT_REQUEST if edge else _ESCAPED.KEEP_UNCHANGED
    filters = [in_lower_case(), _router()] if scoped else [_router()]
    manager = _manners(filters, escaped=escaped)
    manager.use_remote_address = edge
    if not edge:
        manager.local_reply_config = LocalReplyConfig(mappers=[_nowhere()])
    return encode(manager)


def _nowhere() -> ResponseMapper:
    """Return what answers calls to names that are no service's, or out of reach.

    No other calls meet no route: where a service has routes, the last one takes what is left.
    """
    return ResponseMapper(
        filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"])),
        status_code=502,
        body=DataSource(inline_string="no such service in this mesh\n"),
    )


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
        assembled(CustomTag, tag="usage", value=f"%DYNAMIC_METADATA({CHECK}:usage)%"),
        assembled(CustomTag, tag="grpc_status", value="%GRPC_STATUS_NUMBER%"),
    ]
    manager = _by_name(routes) + _manager(name, tags) + _serving()
    return _listener(name, address, manager, [routes], [TELEMETRY, POLICY])


@cache
def _serving() -> bytes:
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
    manager = _manners(filters, escaped=_ESCAPED.REJECT_REQUEST)
    detected = packed(CustomHeaderConfig(header_name=ADDRESS_HEADER))
    manager.original_ip_detection_extensions = [
        TypedExtensionConfig(name=_DETECTION, typed_config=detected)
    ]
    manager.local_reply_config = LocalReplyConfig(
        mappers=[_saying(UNREACHED, "UF"), _saying(CUT, "UC")]
    )
    return encode(manager)


def _saying(why: str, flag: str) -> ResponseMapper:
    """Return what adds `UNSERVED_HEADER` to Envoy's own answers with this response flag."""
    header = HeaderValue(key=UNSERVED_HEADER, value=why)
    return ResponseMapper(
        filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[flag])),
        headers_to_add=[HeaderValueOption(header=header, append_action=_OVERWRITE)],
    )


def _by_name(routes: str) -> bytes:
    source = assembled(Rds, config_source=_over_ads(), route_config_name=routes)
    return assembled(HttpConnectionManager, rds=source)


def _manager(name: str, tags: Sequence[bytes]) -> bytes:
    """Return what the connection managers of two listeners do not have in common."""
    return assembled(
        HttpConnectionManager,
        stat_prefix=name.replace("/", "_"),
        access_log=_access_log(name, tags),
    )


@cache
def _over_ads() -> bytes:
    return encode(from_ads())


def _manners(filters: Sequence[HttpFilter], *, escaped: _ESCAPED) -> HttpConnectionManager:
    return HttpConnectionManager(
        http_filters=list(filters),
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
    manager: bytes,
    routes: Iterable[str],
    clusters: Iterable[str],
) -> Resource:
    network = assembled(
        Filter,
        name="envoy.filters.network.http_connection_manager",
        typed_config=wrapped(HttpConnectionManager, manager),
    )
    chain = assembled(FilterChain, filters=network)
    body = assembled(Listener, name=name, address=encode(address), filter_chains=chain)
    named = ((ROUTE, each) for each in routes)
    refs = frozenset([*named, *((CLUSTER, cluster) for cluster in clusters)])
    return Resource(LISTENER, name, body + _bounds(), refs)


@cache
def _bounds() -> bytes:
    return encode(Listener(per_connection_buffer_limit_bytes=1 << 18))


def _overwriting(header: str, value: str) -> bytes:
    pair = assembled(HeaderValueOption, header=assembled(HeaderValue, key=header, value=value))
    return assembled(Mutation, append=pair + _overwrite())


@cache
def _overwrite() -> bytes:
    return encode(HeaderValueOption(append_action=_OVERWRITE))


def _router() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router()))


def _access_log(name: str, tags: Sequence[bytes]) -> bytes:
    common = assembled(CommonGrpcAccessLogConfig, log_name=name, custom_tags=tags) + _reporting()
    config = assembled(
        HttpGrpcAccessLogConfig,
        common_config=common,
        additional_request_headers_to_log="content-type",
    )
    return assembled(
        AccessLog,
        name="envoy.access_loggers.http_grpc",
        typed_config=wrapped(HttpGrpcAccessLogConfig, config),
    )


@cache
def _reporting() -> bytes:
    return encode(
        CommonGrpcAccessLogConfig(
            grpc_service=grpc_service(TELEMETRY, timeout=0),
            transport_api_version=ApiVersion.V3,
            buffer_flush_interval=seconds(FLUSH),
        )
    )


def _literal(tag: str, value: str) -> bytes:
    return assembled(CustomTag, tag=tag, literal=assembled(CustomTagLiteral, value=value))


@cache
def _of_request(tag: str, header: str) -> bytes:
    source = CustomTagHeader(name=header, default_value="unknown")
    return encode(CustomTag(tag=tag, request_header=source))


@cache
def _of_host(tag: str, key: str) -> bytes:
    path = MetadataKey(key=METADATA, path=[MetadataKeyPathSegment(key=key)])
    host = MetadataKind(host=MetadataKindHost())
    metadata = CustomTagMetadata(kind=host, metadata_key=path, default_value="unknown")
    return encode(CustomTag(tag=tag, metadata=metadata))
