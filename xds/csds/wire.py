"""Client status messages to and from our values.

Source: https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/status/v3/csds.proto
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from wherry.protobuf import messages
from xds.csds.fleet import Config, Held, Proxy, Refusal, Sync
from xds.csds.match import NodeMatcher, TextTest, ValueTest, text_test
from xds.csds.regex import BadPattern, regex_test
from xds.encode import delimited
from xds.node import Node, Value
from xds.resource import TypeUrl

SPEC = """
RegexMatcher(envoy.type.matcher.v3.RegexMatcher) regex:s=2
StringMatcher(envoy.type.matcher.v3.StringMatcher)
    exact:s=1@match_pattern prefix:s=2@match_pattern suffix:s=3@match_pattern
    safe_regex:RegexMatcher=5@match_pattern contains:s=7@match_pattern ignore_case:b=6
DoubleRange(envoy.type.v3.DoubleRange) start:d=1 end:d=2
DoubleMatcher(envoy.type.matcher.v3.DoubleMatcher)
    range:DoubleRange=1@match_pattern exact:d=2@match_pattern
NullMatch(envoy.type.matcher.v3.ValueMatcher.NullMatch)
ValueMatcher(envoy.type.matcher.v3.ValueMatcher)
    null_match:NullMatch=1@match_pattern double_match:DoubleMatcher=2@match_pattern
    string_match:StringMatcher=3@match_pattern bool_match:b=4@match_pattern
    present_match:b=5@match_pattern
PathSegment(envoy.type.matcher.v3.StructMatcher.PathSegment) key:s=1@segment
StructMatcher(envoy.type.matcher.v3.StructMatcher) path:*PathSegment=2 value:ValueMatcher=3
NodeMatcher(envoy.type.matcher.v3.NodeMatcher)
    node_id:StringMatcher=1 node_metadatas:*StructMatcher=2
SemanticVersion(envoy.type.v3.SemanticVersion) major_number:u32=1 minor_number:u32=2 patch:u32=3
Node(envoy.config.core.v3.Node)
    id:s=1 cluster:s=2 metadata:.google.protobuf.Struct=3 user_agent_name:s=6
    user_agent_version:s=7@user_agent_version_type
ClientStatusRequest(envoy.service.status.v3.ClientStatusRequest)
    node_matchers:*NodeMatcher=1 node:Node=2 exclude_resource_contents:b=3
UpdateFailureState(envoy.admin.v3.UpdateFailureState)
    last_update_attempt:.google.protobuf.Timestamp=2 details:s=3 version_info:s=4
GenericXdsConfig(envoy.service.status.v3.ClientConfig.GenericXdsConfig)
    type_url:s=1 name:s=2 version_info:s=3 xds_config:.google.protobuf.Any=4
    last_updated:.google.protobuf.Timestamp=5 config_status:enum=6 client_status:enum=7
    error_state:UpdateFailureState=8 is_static_resource:b=9
ClientConfig(envoy.service.status.v3.ClientConfig)
    node:Node=1 generic_xds_configs:*GenericXdsConfig=3 client_scope:s=4
ClientStatusResponse(envoy.service.status.v3.ClientStatusResponse) config:*ClientConfig=1
"""
"""Fields that we read or write."""

MESSAGES = messages("wherry.xds.csds", SPEC)

MAX_MATCHERS = 100
"""Most node matchers in one request, and most conditions in one matcher."""
MAX_PATTERN = 1024
"""Most characters in one pattern or key."""
MAX_PATH = 16
"""Most keys in one path into a node's metadata."""

_CONFIG, _GENERIC = 1, 3
"""Numbers of the repeated fields of ClientStatusResponse and ClientConfig."""


class BadQuery(WherryError):
    """What a client asked for cannot be read, or is over a limit."""


def query_from(raw: bytes) -> tuple[tuple[NodeMatcher, ...], bool]:
    """Read a ClientStatusRequest: which nodes, and whether with the resources' contents.

    Raises:
        BadQuery: It is no ClientStatusRequest, over a limit, or matches by what we do not read.
    """
    try:
        message = MESSAGES["ClientStatusRequest"].FromString(raw)
    except DecodeError as error:
        raise BadQuery(f"status request: {error}, expected a ClientStatusRequest") from None
    _few("node matchers", len(message.node_matchers), MAX_MATCHERS)
    matchers = tuple(_node_matcher(each) for each in message.node_matchers)
    return matchers, not message.exclude_resource_contents


def query_bytes(ids: Iterable[str], *, contents: bool) -> bytes:
    """Return a ClientStatusRequest for the nodes with these ids; none is everybody."""
    message = MESSAGES["ClientStatusRequest"](
        node_matchers=[{"node_id": {"exact": each}} for each in ids],
        exclude_resource_contents=not contents,
    )
    return bytes(message.SerializeToString())


def proxy_head(proxy: Proxy) -> bytes:
    """Return the start of a ClientConfig: everything but its resources."""
    node = proxy.node
    message = MESSAGES["ClientConfig"](client_scope=proxy.stream)
    message.node.id, message.node.cluster = node.id, node.cluster
    message.node.user_agent_name = node.user_agent_name
    message.node.user_agent_version = node.user_agent_version
    if node.metadata:
        message.node.metadata.update(_plain(node.metadata))
    return bytes(message.SerializeToString())


def config_field(config: Config, *, contents: bool) -> bytes:
    """Return one resource as a field of a ClientConfig."""
    message = MESSAGES["GenericXdsConfig"](
        type_url=config.type_url,
        name=config.name,
        version_info=config.version,
        config_status=int(config.sync),
        client_status=int(config.held),
    )
    if config.updated_unix_ns:
        message.last_updated.FromNanoseconds(config.updated_unix_ns)
    if contents and config.body is not None:
        message.xds_config.type_url = config.type_url
        message.xds_config.value = config.body
    if (refusal := config.refusal) is not None:
        message.error_state.details = refusal.details
        message.error_state.version_info = refusal.version
        if refusal.at_unix_ns:
            message.error_state.last_update_attempt.FromNanoseconds(refusal.at_unix_ns)
    return delimited(_GENERIC, message.SerializeToString())


def proxy_field(parts: Iterable[bytes]) -> bytes:
    """Return a ClientConfig, given in parts, as a field of a ClientStatusResponse."""
    return delimited(_CONFIG, b"".join(parts))


def proxies_from(raw: bytes) -> tuple[Proxy, ...]:
    """Read a ClientStatusResponse.

    Raises:
        BadQuery: It is none.
    """
    try:
        message = MESSAGES["ClientStatusResponse"].FromString(raw)
    except DecodeError as error:
        raise BadQuery(f"status response: {error}, expected a ClientStatusResponse") from None
    return tuple(map(_proxy, message.config))


def _proxy(message: Any) -> Proxy:
    given = message.node
    node = Node(
        id=given.id,
        cluster=given.cluster,
        metadata=_frozen(given.metadata),
        user_agent_name=given.user_agent_name,
        user_agent_version=given.user_agent_version,
    )
    configs = tuple(map(_config, message.generic_xds_configs))
    return Proxy(node, message.client_scope, lambda: configs)


def _config(message: Any) -> Config:
    refusal = None
    if message.HasField("error_state"):
        state = message.error_state
        at = state.last_update_attempt.ToNanoseconds()
        refusal = Refusal(state.details, state.version_info, at)
    return Config(
        type_url=TypeUrl(message.type_url),
        name=message.name,
        version=message.version_info,
        sync=_known(Sync, message.config_status, Sync.UNKNOWN),
        held=_known(Held, message.client_status, Held.UNKNOWN),
        updated_unix_ns=message.last_updated.ToNanoseconds(),
        body=message.xds_config.value if message.HasField("xds_config") else None,
        refusal=refusal,
    )


def _known(enum: Any, number: int, otherwise: Any) -> Any:
    return enum(number) if number in set(enum) else otherwise


def _node_matcher(message: Any) -> NodeMatcher:
    _few("conditions", len(message.node_metadatas), MAX_MATCHERS)
    node_id = _text_test(message.node_id) if message.HasField("node_id") else None
    return NodeMatcher(node_id, tuple(map(_struct_matcher, message.node_metadatas)))


def _struct_matcher(message: Any) -> tuple[tuple[str, ...], ValueTest]:
    _few("keys in a path", len(message.path), MAX_PATH)
    path = tuple(_bounded(segment.key) for segment in message.path)
    if not path:
        raise BadQuery("metadata matcher: no path, expected at least one key")
    return path, _value_test(message.value)


def _value_test(message: Any) -> ValueTest:
    kind = message.WhichOneof("match_pattern")
    match kind:
        case "string_match":
            test = _text_test(message.string_match)
            return lambda value: isinstance(value, str) and test(value)
        case "bool_match":
            wanted = message.bool_match
            return lambda value: value is wanted
        case "present_match":
            present = message.present_match
            return lambda _: present
        case "null_match":
            return lambda value: value is None
        case "double_match":
            return _number_test(message.double_match)
        case _:
            raise BadQuery(
                f"metadata matcher: {kind or 'a kind that is not read'}, expected string_match, "
                "bool_match, present_match, null_match or double_match"
            )


def _number_test(message: Any) -> ValueTest:
    if message.WhichOneof("match_pattern") == "range":
        start, end = message.range.start, message.range.end
        return lambda value: _is_number(value) and start <= value < end
    exact = message.exact
    return lambda value: _is_number(value) and value == exact


def _is_number(value: Any) -> bool:
    return isinstance(value, float)


def _text_test(message: Any) -> TextTest:
    kind = message.WhichOneof("match_pattern")
    if kind is None:
        raise BadQuery(
            "string matcher: a kind that is not read, expected exact, prefix, suffix, contains "
            "or safe_regex"
        )
    if kind == "safe_regex":
        try:
            return regex_test(_bounded(message.safe_regex.regex))
        except BadPattern as error:
            raise BadQuery(str(error)) from None
    pattern = _bounded(getattr(message, kind))
    return text_test(kind, pattern, ignore_case=message.ignore_case)


def _bounded(text: str) -> str:
    _few("characters in a pattern", len(text), MAX_PATTERN)
    return text


def _few(what: str, found: int, most: int) -> None:
    if found > most:
        raise BadQuery(f"status request: {found} {what}, expected at most {most}")


def _plain(value: Value) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _frozen(struct: Any) -> Mapping[str, Value]:
    return MappingProxyType({key: _frozen_value(each) for key, each in struct.fields.items()})


def _frozen_value(value: Any) -> Value:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _frozen(value.struct_value)
        case "list_value":
            return tuple(map(_frozen_value, value.list_value.values))
        case "null_value" | None:
            return None
        case kind:
            found: Value = getattr(value, kind)
            return found
