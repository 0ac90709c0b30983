"""Discovery and registry messages to and from our values; parsed with upb.

Discovery responses are made in `xds.press`.

Source: https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/discovery/v3/discovery.proto
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from wherry.protobuf import messages
from xds.delta import DeltaRequest
from xds.node import Node, Value
from xds.resource import TypeUrl
from xds.sotw import Request
from xds.workload import Workload

SPEC = """
Status(google.rpc.Status) code:i32=1 message:s=2
SemanticVersion(envoy.type.v3.SemanticVersion) major_number:u32=1 minor_number:u32=2 patch:u32=3
BuildVersion(envoy.config.core.v3.BuildVersion) version:SemanticVersion=1
Locality(envoy.config.core.v3.Locality) region:s=1 zone:s=2 sub_zone:s=3
Node(envoy.config.core.v3.Node)
    id:s=1 cluster:s=2 metadata:.google.protobuf.Struct=3 locality:Locality=4 user_agent_name:s=6
    user_agent_version:s=7@user_agent_version_type
    user_agent_build_version:BuildVersion=8@user_agent_version_type
    client_features:*s=10
DiscoveryRequest(envoy.service.discovery.v3.DiscoveryRequest)
    version_info:s=1 node:Node=2 resource_names:*s=3 type_url:s=4 response_nonce:s=5
    error_detail:Status=6
DiscoveryResponse(envoy.service.discovery.v3.DiscoveryResponse)
    version_info:s=1 resources:*.google.protobuf.Any=2 type_url:s=4 nonce:s=5
Resource(envoy.service.discovery.v3.Resource)
    version:s=1 resource:.google.protobuf.Any=2 name:s=3 aliases:*s=4
    ttl:.google.protobuf.Duration=6
DeltaDiscoveryRequest(envoy.service.discovery.v3.DeltaDiscoveryRequest)
    node:Node=1 type_url:s=2 resource_names_subscribe:*s=3 resource_names_unsubscribe:*s=4
    initial_resource_versions:map<s,s>=5 response_nonce:s=6 error_detail:Status=7
DeltaDiscoveryResponse(envoy.service.discovery.v3.DeltaDiscoveryResponse)
    system_version_info:s=1 resources:*Resource=2 type_url:s=4 nonce:s=5 removed_resources:*s=6
RegisterRequest
    id:s=1 service:s=2 version:s=3 address:s=4 port:u32=5 ttl_seconds:u32=6 labels:map<s,s>=7
RegisterResponse expires_unix_ns:i64=1
DeregisterRequest id:s=1 service:s=2
DeregisterResponse removed:b=1
"""
"""Fields that we read or write."""

MESSAGES = messages("wherry.xds", SPEC)

MAX_NAMES = 20_000
"""Most resource names in one request."""
MAX_NAME = 1024
"""Most characters in one resource name, type URL, node id or node cluster."""
MAX_METADATA = 64 << 10
"""Most bytes of a node's metadata."""
MAX_DEPTH = 16
"""Deepest nesting of a node's metadata."""


MAX_KNOWN, MOST_KNOWN = 32 << 10, 512
"""Longest request that is remembered, in bytes, and how many are."""

T = TypeVar("T")


class BadRequest(WherryError):
    """What a client sent cannot be read or is over a limit."""


class _Known(Generic[T]):
    """Requests by their bytes: what many clients say alike is read once.

    An ACK of a response that many streams share is the same for all of them. When it is full it
    starts anew.
    """

    def __init__(self) -> None:
        self._by_raw: dict[bytes, T] = {}
        self.get = self._by_raw.get

    def keep(self, raw: bytes, request: T) -> None:
        """Remember ``request``, unless it is large."""
        if len(raw) > MAX_KNOWN:
            return
        if len(self._by_raw) >= MOST_KNOWN:
            self._by_raw.clear()
        self._by_raw[raw] = request


_sotw: _Known[Request] = _Known()
_delta: _Known[DeltaRequest] = _Known()


def request_from(raw: bytes) -> tuple[Request, Node | None]:
    """Read a state-of-the-world request, and the node where it is given.

    Raises:
        BadRequest: It is no DiscoveryRequest, or over a limit.
    """
    if (known := _sotw.get(raw)) is not None:
        return known, None
    message = _parsed("DiscoveryRequest", raw)
    request = Request(
        _type_url(message),
        _names(message.resource_names),
        message.response_nonce,
        _error(message),
        message.version_info[:MAX_NAME],
    )
    node = _node(message)
    if node is None:
        _sotw.keep(raw, request)
    return request, node


def delta_request_from(raw: bytes) -> tuple[DeltaRequest, Node | None]:
    """Read an incremental request, and the node where it is given.

    Raises:
        BadRequest: It is no DeltaDiscoveryRequest, or over a limit.
    """
    if (known := _delta.get(raw)) is not None:
        return known, None
    message = _parsed("DeltaDiscoveryRequest", raw)
    _names(message.initial_resource_versions)
    request = DeltaRequest(
        type_url=_type_url(message),
        subscribe=_names(message.resource_names_subscribe),
        unsubscribe=_names(message.resource_names_unsubscribe),
        versions=MappingProxyType(dict(message.initial_resource_versions)),
        nonce=message.response_nonce,
        error=_error(message),
    )
    node = _node(message)
    if node is None:
        _delta.keep(raw, request)
    return request, node


R = TypeVar("R", bound=Request | DeltaRequest)


def retyped(request: R, type_url: TypeUrl | None) -> R:
    """Return ``request`` with the type of its service, where it names none.

    Raises:
        BadRequest: Nobody says what type it is about.
    """
    if request.type_url:
        return request
    if type_url is None:
        raise BadRequest("request: no type_url, expected one")
    return replace(request, type_url=type_url)


def registration_from(raw: bytes) -> tuple[Workload, int]:
    """Read a RegisterRequest: the workload, and its time to live in seconds, not checked yet.

    Raises:
        BadRequest: It is no RegisterRequest.
        BadWorkload: A value of the workload cannot be used.
    """
    message = _parsed("RegisterRequest", raw)
    workload = Workload(
        id=message.id,
        service=message.service,
        version=message.version,
        address=message.address,
        port=message.port,
        labels=dict(message.labels),
    )
    return workload, message.ttl_seconds


def registration_bytes(workload: Workload, ttl_seconds: int) -> bytes:
    """Return a RegisterRequest."""
    message = MESSAGES["RegisterRequest"](
        id=workload.id,
        service=workload.service,
        version=workload.version,
        address=workload.address,
        port=workload.port,
        ttl_seconds=ttl_seconds,
        labels=dict(workload.labels),
    )
    return bytes(message.SerializeToString())


def registered_bytes(expires_unix_ns: int) -> bytes:
    """Return a RegisterResponse."""
    message = MESSAGES["RegisterResponse"](expires_unix_ns=expires_unix_ns)
    return bytes(message.SerializeToString())


def registered_from(raw: bytes) -> int:
    """Return when a registration ends, from a RegisterResponse: Unix nanoseconds."""
    return int(_parsed("RegisterResponse", raw).expires_unix_ns)


def deregistration_from(raw: bytes) -> tuple[str, str]:
    """Read a DeregisterRequest: service and id, not checked yet.

    Raises:
        BadRequest: It is no DeregisterRequest.
    """
    message = _parsed("DeregisterRequest", raw)
    return message.service, message.id


def deregistration_bytes(service: str, workload_id: str) -> bytes:
    """Return a DeregisterRequest."""
    message = MESSAGES["DeregisterRequest"](id=workload_id, service=service)
    return bytes(message.SerializeToString())


def deregistered_bytes(*, removed: bool) -> bytes:
    """Return a DeregisterResponse."""
    return bytes(MESSAGES["DeregisterResponse"](removed=removed).SerializeToString())


def deregistered_from(raw: bytes) -> bool:
    """Return whether there was a registration to remove, from a DeregisterResponse."""
    return bool(_parsed("DeregisterResponse", raw).removed)


def _parsed(kind: str, raw: bytes) -> Any:
    try:
        return MESSAGES[kind].FromString(raw)
    except DecodeError as error:
        raise BadRequest(f"request: {error}, expected a {kind}") from None


def _names(given: Any) -> frozenset[str]:
    if len(given) > MAX_NAMES:
        raise BadRequest(f"request: {len(given)} resource names, expected at most {MAX_NAMES}")
    names = frozenset(given)
    if names and (longest := max(map(len, names))) > MAX_NAME:
        raise BadRequest(
            f"request: a resource name of {longest} characters, expected at most {MAX_NAME}"
        )
    return names


def _type_url(message: Any) -> TypeUrl:
    type_url = message.type_url
    if len(type_url) > MAX_NAME:
        raise BadRequest(
            f"request: type_url of {len(type_url)} characters, expected at most {MAX_NAME}"
        )
    return TypeUrl(type_url)


def _error(message: Any) -> str | None:
    if not message.HasField("error_detail"):
        return None
    return message.error_detail.message or f"code {message.error_detail.code}"


def _node(message: Any) -> Node | None:
    if not message.HasField("node"):
        return None
    node = message.node
    if max(len(node.id), len(node.cluster)) > MAX_NAME:
        raise BadRequest(f"node: id or cluster too long, expected at most {MAX_NAME} characters")
    if (size := node.metadata.ByteSize()) > MAX_METADATA:
        raise BadRequest(
            f"node {node.id!r}: {size} bytes of metadata, expected at most {MAX_METADATA}"
        )
    build = node.user_agent_build_version.version
    return Node(
        id=node.id,
        cluster=node.cluster,
        metadata=_struct(node.metadata, 1),
        user_agent_name=node.user_agent_name[:MAX_NAME],
        user_agent_version=node.user_agent_version[:MAX_NAME]
        or (
            f"{build.major_number}.{build.minor_number}.{build.patch}"
            if node.HasField("user_agent_build_version")
            else ""
        ),
        locality=tuple(
            text[:MAX_NAME]
            for text in (node.locality.region, node.locality.zone, node.locality.sub_zone)
        ),
        client_features=frozenset(feature[:MAX_NAME] for feature in node.client_features[:64]),
    )


def _struct(struct: Any, depth: int) -> Mapping[str, Value]:
    if depth > MAX_DEPTH:
        raise BadRequest(f"node: metadata nested deeper than {MAX_DEPTH}, expected at most that")
    return MappingProxyType({k: _value(v, depth + 1) for k, v in struct.fields.items()})


def _value(value: Any, depth: int) -> Value:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _struct(value.struct_value, depth)
        case "list_value":
            if depth > MAX_DEPTH:
                raise BadRequest(f"node: metadata nested deeper than {MAX_DEPTH}")
            return tuple(_value(item, depth + 1) for item in value.list_value.values)
        case "bool_value":
            return bool(value.bool_value)
        case "number_value":
            return float(value.number_value)
        case "string_value":
            return str(value.string_value)
        case _:
            return None
