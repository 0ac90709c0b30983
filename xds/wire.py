"""Discovery and registry messages to and from our values.

Requests are parsed with upb. Responses are concatenated from leaves that were encoded once:
repeated fields concatenate on the wire.

Source: https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/discovery/v3/discovery.proto
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from wherry.protobuf import messages
from xds.delta import DeltaRequest, DeltaResponse
from xds.encode import delimited
from xds.node import Node, Value
from xds.resource import Resource, TypeUrl
from xds.sotw import Request, Response
from xds.workload import Workload

SPEC = """
Status(google.rpc.Status) code:i32=1 message:s=2
SemanticVersion(envoy.type.v3.SemanticVersion) major_number:u32=1 minor_number:u32=2 patch:u32=3
BuildVersion(envoy.config.core.v3.BuildVersion) version:SemanticVersion=1
Node(envoy.config.core.v3.Node)
    id:s=1 cluster:s=2 metadata:.google.protobuf.Struct=3 user_agent_name:s=6
    user_agent_version:s=7@user_agent_version_type
    user_agent_build_version:BuildVersion=8@user_agent_version_type
DiscoveryRequest(envoy.service.discovery.v3.DiscoveryRequest)
    version_info:s=1 node:Node=2 resource_names:*s=3 type_url:s=4 response_nonce:s=5
    error_detail:Status=6
DiscoveryResponse(envoy.service.discovery.v3.DiscoveryResponse)
    version_info:s=1 resources:*.google.protobuf.Any=2 type_url:s=4 nonce:s=5
Resource(envoy.service.discovery.v3.Resource)
    version:s=1 resource:.google.protobuf.Any=2 name:s=3
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


class BadRequest(WherryError):
    """What a client sent cannot be read or is over a limit."""


def request_from(raw: bytes) -> tuple[Request, Node | None]:
    """Read a state-of-the-world request, and the node where it is given.

    Raises:
        BadRequest: It is no DiscoveryRequest, or over a limit.
    """
    message = _parsed("DiscoveryRequest", raw)
    names = _names(message.resource_names)
    type_url, error = _type_url(message), _error(message)
    return Request(type_url, names, message.response_nonce, error), _node(message)


def delta_request_from(raw: bytes) -> tuple[DeltaRequest, Node | None]:
    """Read an incremental request, and the node where it is given.

    Raises:
        BadRequest: It is no DeltaDiscoveryRequest, or over a limit.
    """
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
    return request, _node(message)


def response_bytes(response: Response) -> bytes:
    """Return ``response`` as a DiscoveryResponse."""
    return b"".join(
        (
            delimited(1, response.version.encode()),
            *map(_any_field, response.resources),
            delimited(4, response.type_url.encode()),
            delimited(5, response.nonce.encode()),
        )
    )


def delta_response_bytes(response: DeltaResponse) -> bytes:
    """Return ``response`` as a DeltaDiscoveryResponse."""
    return b"".join(
        (
            delimited(1, response.version.encode()),
            *map(_resource_field, response.resources),
            delimited(4, response.type_url.encode()),
            delimited(5, response.nonce.encode()),
            *(delimited(6, name.encode()) for name in response.removed),
        )
    )


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
    if not type_url or len(type_url) > MAX_NAME:
        raise BadRequest(
            f"request: type_url of {len(type_url)} characters, expected 1 to {MAX_NAME}"
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


@lru_cache(maxsize=1 << 14)
def _any_field(resource: Resource) -> bytes:
    return delimited(2, _any(resource))


@lru_cache(maxsize=1 << 14)
def _resource_field(resource: Resource) -> bytes:
    return delimited(
        2,
        delimited(1, resource.version.encode())
        + delimited(2, _any(resource))
        + delimited(3, resource.name.encode()),
    )


def _any(resource: Resource) -> bytes:
    return delimited(1, resource.type_url.encode()) + delimited(2, resource.body)
