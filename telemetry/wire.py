"""Envoy's access log messages to our values.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/accesslog/v3/als.proto
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from telemetry.edge import UNKNOWN, Edge, Entry, Reporter
from wherry.errors import WherryError
from wherry.protobuf import messages

TABLE = """
Node(envoy.config.core.v3.Node) id:s=1
Unauthorized(envoy.data.accesslog.v3.ResponseFlags.Unauthorized) reason:enum=1
ResponseFlags(envoy.data.accesslog.v3.ResponseFlags) failed_local_healthcheck:b=1 no_healthy_upstream:b=2 upstream_request_timeout:b=3 local_reset:b=4 upstream_remote_reset:b=5 upstream_connection_failure:b=6 upstream_connection_termination:b=7 upstream_overflow:b=8 no_route_found:b=9 delay_injected:b=10 fault_injected:b=11 rate_limited:b=12 unauthorized_details:Unauthorized=13 rate_limit_service_error:b=14 downstream_connection_termination:b=15 upstream_retry_limit_exceeded:b=16 stream_idle_timeout:b=17 invalid_envoy_request_headers:b=18 downstream_protocol_error:b=19 upstream_max_stream_duration_reached:b=20 response_from_cache_filter:b=21 no_filter_config_found:b=22 duration_timeout:b=23 upstream_protocol_error:b=24 no_cluster_found:b=25 overload_manager:b=26 dns_resolution_failure:b=27 downstream_remote_reset:b=28
AccessLogCommon(envoy.data.accesslog.v3.AccessLogCommon) time_to_last_downstream_tx_byte:.google.protobuf.Duration=12 response_flags:ResponseFlags=16 custom_tags:map<s,s>=22 duration:.google.protobuf.Duration=23 intermediate_log_entry:b=27
HttpRequestProperties(envoy.data.accesslog.v3.HttpRequestProperties) request_body_bytes:u64=12 request_headers:map<s,s>=13
HttpResponseProperties(envoy.data.accesslog.v3.HttpResponseProperties) response_code:.google.protobuf.UInt32Value=1 response_body_bytes:u64=3
HttpAccessLogEntry(envoy.data.accesslog.v3.HttpAccessLogEntry) common_properties:AccessLogCommon=1 protocol_version:enum=2 request:HttpRequestProperties=3 response:HttpResponseProperties=4
TcpAccessLogEntry(envoy.data.accesslog.v3.TcpAccessLogEntry) common_properties:AccessLogCommon=1
Identifier(envoy.service.accesslog.v3.StreamAccessLogsMessage.Identifier) node:Node=1 log_name:s=2
HttpAccessLogEntries(envoy.service.accesslog.v3.StreamAccessLogsMessage.HTTPAccessLogEntries) log_entry:*HttpAccessLogEntry=1
TcpAccessLogEntries(envoy.service.accesslog.v3.StreamAccessLogsMessage.TCPAccessLogEntries) log_entry:*TcpAccessLogEntry=1
StreamAccessLogsMessage(envoy.service.accesslog.v3.StreamAccessLogsMessage) identifier:Identifier=1 http_logs:HttpAccessLogEntries=2@log_entries tcp_logs:TcpAccessLogEntries=3@log_entries
StreamAccessLogsResponse(envoy.service.accesslog.v3.StreamAccessLogsResponse)
"""  # noqa: E501
"""The messages, with the fields that are read here.

Fields that hold what a client sent (path, authority, request id) are left out on purpose: Envoy
copies their bytes into string fields, and one that is no UTF-8 makes the whole message
unreadable.
"""

MESSAGES = messages("wherry.telemetry.accesslog", TABLE)
"""Classes of the messages as Envoy declares them."""

_READ = messages("wherry.telemetry.accesslog.raw", TABLE.replace("map<s,s>", "map<s,by>"))
"""The same with the values of maps as bytes, for tags and headers also hold what a client sent."""

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "failed_local_healthcheck": "LH",
        "no_healthy_upstream": "UH",
        "upstream_request_timeout": "UT",
        "local_reset": "LR",
        "upstream_remote_reset": "UR",
        "upstream_connection_failure": "UF",
        "upstream_connection_termination": "UC",
        "upstream_overflow": "UO",
        "no_route_found": "NR",
        "delay_injected": "DI",
        "fault_injected": "FI",
        "rate_limited": "RL",
        "unauthorized_details": "UAEX",
        "rate_limit_service_error": "RLSE",
        "downstream_connection_termination": "DC",
        "upstream_retry_limit_exceeded": "URX",
        "stream_idle_timeout": "SI",
        "invalid_envoy_request_headers": "IH",
        "downstream_protocol_error": "DPE",
        "upstream_max_stream_duration_reached": "UMSDR",
        "response_from_cache_filter": "RFCF",
        "no_filter_config_found": "NFCF",
        "duration_timeout": "DT",
        "upstream_protocol_error": "UPE",
        "no_cluster_found": "NC",
        "overload_manager": "OM",
        "dns_resolution_failure": "DF",
        "downstream_remote_reset": "DR",
    }
)
"""Envoy's short forms, by field of ``ResponseFlags``.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage
"""

MAX_TAG = 128
"""Longer names of services and versions are cut."""

MAX_DIGITS = 3
"""Longer numbers of gRPC statuses are none."""

MAX_USAGE = 16 << 10
"""Most bytes of what is said of a product's use; what is longer is none of ours."""

RESPONSE: bytes = MESSAGES["StreamAccessLogsResponse"]().SerializeToString()
"""What Envoy gets when it ends a stream."""


class MalformedLog(WherryError):
    """A message that is no StreamAccessLogsMessage."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message of a stream holds.

    Attributes:
        node: Id of the Envoy that sends; empty but on a stream's first message.
        entries: Requests that ended.
        skipped: Entries that are not counted: of TCP connections, or of requests that go on.
    """

    node: str
    entries: tuple[Entry, ...]
    skipped: int


def batch(message: bytes) -> Batch:
    """Read a StreamAccessLogsMessage.

    Raises:
        MalformedLog: The bytes do not parse.
    """
    try:
        read = _READ["StreamAccessLogsMessage"].FromString(message)
    except DecodeError:
        raise MalformedLog(
            f"StreamAccessLogsMessage: {len(message)} bytes that do not parse, expected protobuf"
        ) from None
    logs = read.http_logs.log_entry
    entries = tuple(_entry(log) for log in logs if not _unfinished(log))
    skipped = len(logs) - len(entries) + len(read.tcp_logs.log_entry)
    return Batch(read.identifier.node.id[:MAX_TAG], entries, skipped)


def _unfinished(log: Any) -> bool:
    return bool(log.common_properties.intermediate_log_entry)


def _entry(log: Any) -> Entry:
    common = log.common_properties
    tags = common.custom_tags
    grpc = log.request.request_headers.get("content-type", b"").startswith(b"application/grpc")
    edge = Edge(
        reporter=_reporter(tags.get("reporter")),
        source=_tag(tags.get("source")),
        source_version=_tag(tags.get("source_version")),
        destination=_tag(tags.get("destination")),
        destination_version=_tag(tags.get("destination_version")),
        code=log.response.response_code.value,
        protocol="grpc" if grpc else "http",
        flags=_flags(common.response_flags) if common.HasField("response_flags") else "-",
    )
    took = (
        common.duration if common.HasField("duration") else common.time_to_last_downstream_tx_byte
    )
    return Entry(
        edge,
        took.seconds * 1e3 + took.nanos / 1e6,
        _usage(tags.get("usage", b"")),
        log.request.request_body_bytes,
        log.response.response_body_bytes,
        _number(tags.get("grpc_status", b"")) if grpc else None,
    )


def _usage(value: bytes) -> str:
    """Return what the check service said; Envoy writes a dash where it said nothing."""
    return "" if value == b"-" or len(value) > MAX_USAGE else value.decode("utf-8", "replace")


def _number(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) <= MAX_DIGITS else None


def _tag(value: bytes | None) -> str:
    return value.decode("utf-8", "replace")[:MAX_TAG] if value else UNKNOWN


def _reporter(value: bytes | None) -> Reporter:
    match value:
        case b"source":
            return "source"
        case b"destination":
            return "destination"
        case _:
            return "unknown"


def _flags(flags: Any) -> str:
    return ",".join(FLAGS[field.name] for field, _ in flags.ListFields()) or "-"
