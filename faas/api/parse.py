"""Requests as values: what botocore's serializers write, read back. Pure.

Source: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html and aws-json-1_0.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faas.api import times
from faas.api.faults import SerializationFault
from faas.api.model import NUMBERS, Kind, Location, Member, OperationModel, ServiceModel, Shape

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON spells half of a surrogate pair."""

MAX_DEPTH = 64
"""Most levels of a body's lists, maps and structures."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request, as far as its values are concerned.

    Attributes:
        query: Names and values, decoded, in order.
        headers: By name in lower case.
        labels: Of the path, unquoted; none with the ``json`` protocol.
    """

    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes
    labels: Mapping[str, str]


def parsed(model: ServiceModel, operation: OperationModel, received: Received) -> dict[str, Any]:
    """Return the operation's parameters, typed but not checked against bounds.

    What the model does not have is left out, as AWS does.

    Raises:
        SerializationFault: A value has the wrong type.
    """
    shape = operation.input
    if model.protocol == "json":
        return _Body(model).structure(_object(received.body), shape, "")
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        value = _outside(model, member, received)
        if value is not None:
            found[name] = value
    return found | _payload(model, shape, received)


def _payload(model: ServiceModel, shape: Shape, received: Received) -> dict[str, Any]:
    """Return what the body has."""
    if not shape.payload:
        inside = {
            name: each for name, each in shape.members.items() if each.location is Location.BODY
        }
        if not inside:
            return {}
        return _Body(model).members(_object(received.body), inside, "")
    payload = shape.members[shape.payload]
    kind = model.shape(payload).kind
    if kind is Kind.BLOB:
        return {shape.payload: received.body} if received.body else {}
    if kind is Kind.STRING:
        return {shape.payload: _text(received.body)} if received.body else {}
    if not received.body:
        return {}
    return {shape.payload: _Body(model).value(_json(received.body), payload, shape.payload)}


def _outside(model: ServiceModel, member: Member, received: Received) -> Any:
    """Return a member that travels outside of the body; None when it was not sent."""
    match member.location:
        case Location.URI:
            text = received.labels.get(member.wire_name)
            return None if text is None else _plain(model, member, text)
        case Location.QUERY:
            return _queried(model, member, received.query)
        case Location.HEADER:
            text = received.headers.get(member.wire_name.lower())
            return None if text is None else _headed(model, member, text)
        case Location.HEADERS:
            prefix = member.wire_name.lower()
            found = {
                name[len(prefix) :]: text
                for name, text in received.headers.items()
                if name.startswith(prefix)
            }
            return found or None
        case Location.BODY | Location.STATUS:
            return None


def _queried(model: ServiceModel, member: Member, query: Sequence[tuple[str, str]]) -> Any:
    shape = model.shape(member)
    if shape.kind is Kind.MAP:
        return dict(query) or None
    values = [text for name, text in query if name == member.wire_name]
    if not values:
        return None
    if shape.kind is Kind.LIST and shape.item is not None:
        return [_plain(model, shape.item, text) for text in values]
    return _plain(model, member, values[0])


def _headed(model: ServiceModel, member: Member, text: str) -> Any:
    shape = model.shape(member)
    if shape.kind is Kind.LIST and shape.item is not None:
        return [_headed(model, shape.item, each) for each in _split(text)]
    if member.json_value:
        return _json(_decoded(text, member.wire_name))
    return _plain(model, member, text, usual=times.RFC822)


def _split(text: str) -> list[str]:
    """Return the items of a header's list; those with commas or quotes stand in quotes."""
    items: list[str] = []
    item, quoted, escaped, was_quoted = "", False, False, False
    for char in text:
        if escaped:
            item, escaped = item + char, False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted, was_quoted = not quoted, True
        elif char == "," and not quoted:
            items.append(item if was_quoted else item.strip())
            item, was_quoted = "", False
        elif not (char == " " and not item and not quoted):
            item += char
    return [*items, item if was_quoted else item.strip()]


def _plain(model: ServiceModel, member: Member, text: str, *, usual: str = times.ISO8601) -> Any:
    """Return a value that a path, a query or a header has as text."""
    shape = model.shape(member)
    try:
        match shape.kind:
            case Kind.INTEGER | Kind.LONG:
                return _whole(text)
            case Kind.FLOAT | Kind.DOUBLE:
                return float(text)
            case Kind.BOOLEAN:
                return _boolean(text)
            case Kind.TIMESTAMP:
                return times.read(text, member.timestamp_format or shape.timestamp_format or usual)
            case Kind.BLOB:
                return _decoded(text, member.wire_name)
            case _:
                return text
    except ValueError:
        raise SerializationFault(
            f"{member.wire_name}: found {text[:80]!r}, expected {shape.kind}"
        ) from None


def _whole(text: str) -> int:
    if not text.lstrip("+-").isascii() or len(text) > 20:  # noqa: PLR2004
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SerializationFault(f"{where}: found text, expected base64") from None


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise SerializationFault("Body: found bytes, expected UTF-8") from None


def _json(body: bytes) -> Any:
    try:
        text = body.decode()
        found = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SerializationFault(
            f"Could not parse request body into json: {str(error)[:200]}"
        ) from error
    if _SURROGATE.search(text) and not _is_unicode(found):
        raise SerializationFault(
            "Could not parse request body into json: found half of a surrogate pair, expected both"
        )
    return found


def _is_unicode(found: Any) -> bool:
    """Return whether every text in ``found`` can be written again."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def refuse_constant(name: str) -> None:
    """Refuse what Python reads as JSON and nobody else does.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is no number of JSON")


def _object(body: bytes) -> Mapping[str, Any]:
    found = _json(body) if body.strip() else {}
    if not isinstance(found, dict):
        raise SerializationFault("Body: found no JSON object, expected one")
    return found


class _Body:
    """Reads the values of a JSON body."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._depth = 0

    def structure(self, found: Any, shape: Shape, where: str) -> dict[str, Any]:
        """Return a structure's members."""
        if not isinstance(found, dict):
            raise _unexpected(found, "structure", where)
        return self.members(found, shape.members, where)

    def members(
        self, found: Mapping[str, Any], members: Mapping[str, Member], where: str
    ) -> dict[str, Any]:
        """Return those of ``members`` that are in ``found``; null is as good as not there."""
        return {
            name: self.value(found[member.wire_name], member, f"{where}{name}")
            for name, member in members.items()
            if found.get(member.wire_name) is not None
        }

    def value(self, found: Any, member: Member, where: str) -> Any:
        """Return a value of the member's type."""
        shape = self._model.shape(member)
        if shape.document:
            return found
        match shape.kind:
            case Kind.STRUCTURE | Kind.LIST | Kind.MAP:
                return self._nested(found, shape, where)
            case Kind.TIMESTAMP:
                return _timestamp(found, member.timestamp_format or shape.timestamp_format, where)
            case _:
                return _scalar(found, shape.kind, where)

    def _nested(self, found: Any, shape: Shape, where: str) -> Any:
        if self._depth >= MAX_DEPTH:
            raise SerializationFault(f"{where[:80]}: over {MAX_DEPTH} levels, expected less")
        self._depth += 1
        try:
            if shape.kind is Kind.STRUCTURE:
                return self.structure(found, shape, f"{where}.")
            item = shape.item
            if item is None:
                raise _unexpected(found, shape.kind, where)
            if shape.kind is Kind.LIST and isinstance(found, list):
                return [
                    None if each is None else self.value(each, item, f"{where}.{at}.member")
                    for at, each in enumerate(found, start=1)
                ]
            if shape.kind is Kind.MAP and isinstance(found, dict):
                return {
                    key: None if each is None else self.value(each, item, f"{where}.{key}.member")
                    for key, each in found.items()
                }
            raise _unexpected(found, shape.kind, where)
        finally:
            self._depth -= 1


def _scalar(found: Any, kind: Kind, where: str) -> Any:
    match kind, found:
        case (Kind.BOOLEAN, bool()) | (Kind.STRING, str()):
            return found
        case Kind.BLOB, str():
            return _decoded(found, where)
        case _ if kind in NUMBERS:
            return _number(found, kind, where)
        case _:
            raise _unexpected(found, kind, where)


def _number(found: Any, kind: Kind, where: str) -> float:
    whole = kind in (Kind.INTEGER, Kind.LONG)
    match found:
        case bool():
            raise _unexpected(found, kind, where)
        case int():
            return found if whole else float(found)
        case float() if not whole or found.is_integer():
            return int(found) if whole else found
        case "NaN" | "Infinity" | "-Infinity" if not whole:
            return float(found)
        case _:
            raise _unexpected(found, kind, where)


def _timestamp(found: Any, form: str, where: str) -> Any:
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        raise _unexpected(found, Kind.TIMESTAMP, where)
    try:
        return times.read(found, form or times.UNIX)
    except ValueError:
        raise _unexpected(found, Kind.TIMESTAMP, where) from None


_JAVA = {
    Kind.STRING: "String",
    Kind.BLOB: "ByteBuffer",
    Kind.BOOLEAN: "Boolean",
    Kind.INTEGER: "Integer",
    Kind.LONG: "Long",
    Kind.FLOAT: "Float",
    Kind.DOUBLE: "Double",
    Kind.TIMESTAMP: "Timestamp",
}


def _unexpected(found: Any, kind: str, where: str) -> SerializationFault:
    """Return the error in the words of AWS's own parser, with the place added."""
    place = f" ({where[:200].rstrip('.') or 'body'})"
    if isinstance(found, dict | list):
        return SerializationFault(f"Start of structure or map found where not expected{place}.")
    expected = _JAVA.get(Kind(kind))
    if expected is None:
        return SerializationFault(f"Unexpected value found where a {kind} was expected{place}.")
    token = {bool: "TRUE_VALUE" if found is True else "FALSE_VALUE", str: "STRING_VALUE"}
    return SerializationFault(
        f"{token.get(type(found), 'NUMBER_VALUE')} cannot be converted to {expected}{place}."
    )
