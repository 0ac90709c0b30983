"""Envoy's ext_authz messages to and from our values.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/auth/v3/external_auth.proto
"""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from google.protobuf.message import DecodeError

from policy.admission import USAGE_KEY, Admitted, Rejected
from policy.decision import Decision
from policy.engine import Check
from policy.path import normalised
from wherry.errors import WherryError
from wherry.protobuf import messages

SOURCE_HEADER = "x-wherry-source"
"""Request header in which the caller's Envoy says who calls; the ingress removes strangers'."""

SERVICE_KEY = "service"
"""Key of ``context_extensions`` that holds the service that is called."""

SERVICE_METADATA = "x-wherry-service"
"""gRPC metadata that holds the service when ``context_extensions`` does not."""

UNKNOWN = "unknown"

MESSAGES = messages(
    "wherry.policy.auth",
    """
    SocketAddress(envoy.config.core.v3.SocketAddress) address:s=2 port_value:u32=3@port_specifier
    Address(envoy.config.core.v3.Address) socket_address:SocketAddress=1@address
    HeaderValue(envoy.config.core.v3.HeaderValue) key:s=1 value:s=2 raw_value:by=3
    HeaderValueOption(envoy.config.core.v3.HeaderValueOption) header:HeaderValue=1 append_action:enum=3
    HeaderMap(envoy.config.core.v3.HeaderMap) headers:*HeaderValue=1
    Peer(envoy.service.auth.v3.AttributeContext.Peer) address:Address=1 service:s=2 labels:map<s,s>=3 principal:s=4
    HttpRequest(envoy.service.auth.v3.AttributeContext.HttpRequest) id:s=1 method:s=2 headers:map<s,s>=3 path:s=4 host:s=5 scheme:s=6 size:i64=9 protocol:s=10 header_map:HeaderMap=13
    Request(envoy.service.auth.v3.AttributeContext.Request) time:.google.protobuf.Timestamp=1 http:HttpRequest=2
    AttributeContext(envoy.service.auth.v3.AttributeContext) source:Peer=1 destination:Peer=2 request:Request=4 context_extensions:map<s,s>=10
    CheckRequest(envoy.service.auth.v3.CheckRequest) attributes:AttributeContext=1
    Status(google.rpc.Status) code:i32=1 message:s=2
    HttpStatus(envoy.type.v3.HttpStatus) code:enum=1
    DeniedHttpResponse(envoy.service.auth.v3.DeniedHttpResponse) status:HttpStatus=1 headers:*HeaderValueOption=2 body:s=3
    OkHttpResponse(envoy.service.auth.v3.OkHttpResponse) headers:*HeaderValueOption=2 headers_to_remove:*s=5 response_headers_to_add:*HeaderValueOption=6
    CheckResponse(envoy.service.auth.v3.CheckResponse) status:Status=1 denied_response:DeniedHttpResponse=2@http_response ok_response:OkHttpResponse=3@http_response dynamic_metadata:.google.protobuf.Struct=4
    """,  # noqa: E501
)
"""Classes of the messages, with the fields that are read or written here."""

_OK, _PERMISSION_DENIED = 0, 7
_FAILED_PRECONDITION, _INTERNAL = 9, 13
_GRPC = {
    HTTPStatus.BAD_REQUEST: 3,  # INVALID_ARGUMENT
    HTTPStatus.UNAUTHORIZED: 16,  # UNAUTHENTICATED
    HTTPStatus.PAYMENT_REQUIRED: 8,  # RESOURCE_EXHAUSTED
    HTTPStatus.FORBIDDEN: _PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: 12,  # UNIMPLEMENTED
    HTTPStatus.METHOD_NOT_ALLOWED: 12,
    HTTPStatus.TOO_MANY_REQUESTS: 8,
    HTTPStatus.SERVICE_UNAVAILABLE: 14,  # UNAVAILABLE
    HTTPStatus.GATEWAY_TIMEOUT: 14,
}
"""What clients of gRPC get for a refusal.

Source: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
"""

_OVERWRITE = 2
"""``OVERWRITE_IF_EXISTS_OR_ADD`` of ``HeaderAppendAction``."""


class MalformedCheck(WherryError):
    """A CheckRequest that cannot be judged; the caller must refuse what it is about."""


def check(request: bytes, metadata: Iterable[tuple[str, str | bytes]] = ()) -> Check:
    """Read a CheckRequest.

    Args:
        request: The message as received.
        metadata: The call's gRPC metadata; read only when the message names no service.

    Raises:
        MalformedCheck: The bytes are no CheckRequest, or the service, the method or the path
            is missing.
    """
    try:
        attributes = MESSAGES["CheckRequest"].FromString(request).attributes
    except DecodeError:
        raise MalformedCheck(
            f"CheckRequest: {len(request)} bytes that do not parse, expected protobuf"
        ) from None
    http = attributes.request.http
    service = attributes.context_extensions.get(SERVICE_KEY) or _text(metadata, SERVICE_METADATA)
    if not service:
        raise MalformedCheck(
            f"CheckRequest {http.id}: no service, expected context_extensions[{SERVICE_KEY!r}] "
            f"or metadata {SERVICE_METADATA}"
        )
    if not http.method or not (http.path or http.method == "CONNECT"):
        raise MalformedCheck(f"CheckRequest {http.id}: no HTTP request, expected method and path")
    headers = _headers(http)
    return Check(
        service=service,
        source=headers.get(SOURCE_HEADER) or UNKNOWN,
        method=http.method,
        path=normalised(http.path),
        headers=headers,
        target=http.path,
        host=http.host,
        address=attributes.source.address.socket_address.address,
    )


def response(decision: Decision, *, grpc: bool = False) -> bytes:
    """Write the CheckResponse for ``decision``.

    A refusal is 403 with a problem document; the rule's name and its reason are told to the
    caller, so that whoever reads the answer knows what to change.

    Args:
        decision: What was decided.
        grpc: Whether the request is one of gRPC, see `rejected`.

    Source: RFC 9457
    """
    if decision.passes:
        return _ALLOWED
    problem = {
        "type": "about:blank",
        "title": "Forbidden",
        "status": HTTPStatus.FORBIDDEN.value,
        "detail": decision.reason,
        "rule": decision.rule,
    }
    content_type = {"content-type": "application/problem+json"}
    text = json.dumps(problem)
    given = Rejected(decision.rule, HTTPStatus.FORBIDDEN, content_type, text, decision.reason)
    return rejected(given, grpc=grpc)


def admitted(given: Admitted) -> bytes:
    """Write the CheckResponse that lets a request of a product pass."""
    removed = [name for name in given.removed if name.lower() not in given.headers]
    target = {} if given.target is None else {":path": given.target}
    return _bytes(
        status={"code": _OK},
        ok_response={
            "headers": _options({**given.headers, **target}),
            "headers_to_remove": removed,
            "response_headers_to_add": _options(given.answer),
        },
        dynamic_metadata={USAGE_KEY: given.usage},
    )


def rejected(given: Rejected, *, grpc: bool = False) -> bytes:
    """Write the CheckResponse that refuses a request.

    Args:
        given: Why.
        grpc: Whether the request is one of gRPC. Its client gets a status of gRPC, of which Envoy
            would choose UNAVAILABLE for a limit that is reached, and one line of text.
    """
    headers, body = given.headers, given.body
    if grpc:
        kept = {name: text for name, text in headers.items() if name.lower() != "content-type"}
        headers, body = {**kept, "grpc-status": str(_grpc_status(given.status))}, given.detail
    return _bytes(
        status={"code": _PERMISSION_DENIED, "message": given.product},
        denied_response={
            "status": {"code": given.status.value},
            "headers": _options(headers),
            "body": body,
        },
    )


def _grpc_status(status: HTTPStatus) -> int:
    default = _INTERNAL if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _FAILED_PRECONDITION
    return _GRPC.get(status, default)


def _options(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"header": {"key": name.lower(), "value": value}, "append_action": _OVERWRITE}
        for name, value in headers.items()
    ]


def _bytes(**fields: Any) -> bytes:
    encoded: bytes = MESSAGES["CheckResponse"](**fields).SerializeToString()
    return encoded


_ALLOWED = _bytes(status={"code": _OK}, ok_response={})


def _headers(http: Any) -> Mapping[str, str]:
    """Return the headers by lower-case name, from either form that Envoy sends."""
    found = {name.lower(): value for name, value in http.headers.items()}
    for header in http.header_map.headers:
        name = header.key.lower()
        value = header.value or header.raw_value.decode("utf-8", "replace")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _text(metadata: Iterable[tuple[str, str | bytes]], key: str) -> str:
    return next((v for k, v in metadata if k == key and isinstance(v, str)), "")
