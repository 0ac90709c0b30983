"""The few Envoy messages that every builder writes."""

import datetime as dt
from collections.abc import Iterable
from functools import cache

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.message_pool import default_message_pool

from xds.encode import delimited, described, encode

SOURCE_HEADER = "x-wherry-source"
SOURCE_VERSION_HEADER = "x-wherry-source-version"
"""Who calls; each outbound listener overwrites both."""

ADDRESS_HEADER = "x-wherry-address"
"""The client's address, as the Envoy at the edge saw it; other outbound listeners remove it.

Sidecars believe it, and not ``X-Forwarded-For``, which every member of the mesh may write.
"""

SCOPE_HEADER = "x-wherry-scope"
"""Where a request's routes are; each outbound listener overwrites it, and routes remove it."""

UNSERVED_HEADER = "x-wherry-unserved"
UNREACHED, CUT = "unreached", "cut"
"""Why a sidecar answers for its program: no connection, or one that ended without an answer."""

METADATA = "wherry"
"""Filter metadata of an endpoint that holds ``service`` and ``version``."""

Source = tuple[str, str]
"""Kind and name of a resource of the World."""


def assembled(cls: type[betterproto2.Message], **parts: str | bytes | Iterable[bytes]) -> bytes:
    """Return the encoding of a message whose parts are encoded already.

    Parts of one message may be joined: fields may come in any order and a repeated field in pieces.

    Args:
        cls: The message's class.
        parts: By field: text, an encoded message, or several for a repeated field.
    """
    out = []
    for name, part in parts.items():
        number = _numbers(cls)[name]
        match part:
            case str():
                out.append(delimited(number, part.encode()))
            case bytes():
                out.append(delimited(number, part))
            case _:
                out += [delimited(number, each) for each in part]
    return b"".join(out)


@cache
def _numbers(cls: type[betterproto2.Message]) -> dict[str, int]:
    known = described(cls).meta_by_field_name.items()
    carrying = {betterproto2.TYPE_STRING, betterproto2.TYPE_BYTES, betterproto2.TYPE_MESSAGE}
    return {name: field.number for name, field in known if field.proto_type in carrying}


def wrapped(cls: type[betterproto2.Message], body: bytes) -> bytes:
    """Return the encoding of an Any that holds an encoded message of ``cls``."""
    return assembled(Any, type_url=default_message_pool.type_to_url[cls], value=body)


def packed(message: betterproto2.Message) -> Any:
    """Return ``message`` in an Any, encoded by the compiled encoder."""
    return Any(
        type_url=default_message_pool.type_to_url[type(message)],
        value=encode(message),
    )


def seconds(value: float) -> dt.timedelta:
    """Return ``value`` seconds."""
    return dt.timedelta(seconds=value)


def socket_address(host: str, port: int) -> Address:
    """Return a TCP address."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def pipe_address(path: str, *, mode: int = 0o600) -> Address:
    """Return a unix socket's address; ``mode`` is the socket file's."""
    return Address(pipe=Pipe(path=path, mode=mode))


def from_ads() -> ConfigSource:
    """Return the source that says: over the stream we already have."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def grpc_service(cluster: str, *, timeout: float) -> GrpcService:
    """Return a gRPC service behind ``cluster``; ``timeout`` in seconds, 0 for none."""
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster),
        timeout=seconds(timeout) if timeout else None,
    )


def exactly(text: str) -> StringMatcher:
    """Return a matcher for ``text`` itself."""
    return StringMatcher(exact=text)


def by_regex(regex: str) -> StringMatcher:
    """Return a matcher for an RE2 expression over the whole text."""
    return StringMatcher(safe_regex=RegexMatcher(regex=regex))


def by_pattern(pattern: str) -> StringMatcher:
    """Return a matcher for Istio's ``exact``, ``prefix*``, ``*suffix`` and ``*`` (anything)."""
    if pattern == "*":
        return by_regex(".+")
    if pattern.endswith("*"):
        return StringMatcher(prefix=pattern[:-1])
    if pattern.startswith("*"):
        return StringMatcher(suffix=pattern[1:])
    return exactly(pattern)
