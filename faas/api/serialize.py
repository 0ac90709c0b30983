"""Answers as bytes: what botocore's parsers read back. Pure.

Source: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html and aws-json-1_0.
"""

import base64
import json
import math
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faas.api import times
from faas.api.asked import Answered
from faas.api.model import Kind, Location, Member, OperationModel, ServiceModel, Shape
from faas.lambda_errors import LambdaError

JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back.

    Attributes:
        headers: ``Content-Type`` among them when there is a body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def reply(model: ServiceModel, operation: OperationModel, answered: Answered) -> Reply:
    """Return an operation's answer as it travels; of a stream of events, all but the events."""
    shape, members = operation.output, answered.members
    if model.protocol == "json":
        body = _dumped(_Body(model).structure(members, shape))
        return Reply(answered.status or 200, _typed(_json_type(model), answered.headers), body)
    status = answered.status or operation.status
    headers: dict[str, str] = {}
    for name, member in shape.members.items():
        value = members.get(name)
        if value is None:
            continue
        if member.location is Location.STATUS:
            status = value
        elif member.location is Location.HEADERS:
            headers |= {f"{member.wire_name}{key}": text for key, text in value.items()}
        elif member.location is Location.HEADER:
            headers[member.wire_name] = _header(model, member, value)
    kind, body = _payload(model, shape, members)
    if not body and _is_bare(status, shape):
        return Reply(status, {**headers, **answered.headers})
    return Reply(status, _typed(kind, headers, answered.headers), body)


def _is_bare(status: int, shape: Shape) -> bool:
    """Whether there is no body at all."""
    return status in (204, 304) or not shape.members or bool(shape.payload)


def refusal(model: ServiceModel, error: LambdaError) -> Reply:
    """Return an error as it travels."""
    if model.protocol != "json":
        return Reply(error.status, _typed(JSON, error.headers()), error.body())
    shape = model.shapes.get(error.code)
    headers = _typed(_json_type(model), error.headers())
    if model.query_compatible:
        known = error.code if shape is None else shape.error_code or error.code
        side = "Sender" if error.fault == "User" else "Receiver"
        headers.setdefault("x-amzn-query-error", f"{known};{side}")
    body = _dumped({"__type": f"com.amazonaws.{model.name}#{error.code}", "message": str(error)})
    return Reply(error.status, headers, body)


def event_members(
    model: ServiceModel, shape: Shape, members: Mapping[str, Any]
) -> tuple[str, bytes]:
    """Return the content type and the payload of one event; its headers are not among them."""
    for name, member in shape.members.items():
        if member.event_payload and model.shape(member).kind is Kind.BLOB:
            return OCTETS, members.get(name, b"")
    return JSON, _dumped(_Body(model).structure(members, shape))


def _payload(model: ServiceModel, shape: Shape, members: Mapping[str, Any]) -> tuple[str, bytes]:
    if shape.payload:
        payload = shape.members[shape.payload]
        value = members.get(shape.payload)
        if value is None or model.shape(payload).event_stream:
            return JSON, b""
        if isinstance(value, bytes):
            return OCTETS, value
        if isinstance(value, str):
            return "text/plain", value.encode()
        return JSON, _dumped(_Body(model).value(value, payload))
    inside = {name: each for name, each in shape.members.items() if each.location is Location.BODY}
    if not inside:
        return JSON, b""
    return JSON, _dumped(_Body(model).members(members, inside))


def _header(model: ServiceModel, member: Member, value: Any) -> str:
    shape = model.shape(member)
    if member.json_value:
        return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()
    match shape.kind:
        case Kind.TIMESTAMP:
            form = member.timestamp_format or shape.timestamp_format or times.RFC822
            return str(times.written(value, form))
        case Kind.BOOLEAN:
            return str(value).lower()
        case Kind.BLOB:
            return base64.b64encode(value).decode()
        case Kind.LIST:
            return ",".join(_quoted(str(each)) for each in value)
        case _:
            return str(value)


def _quoted(text: str) -> str:
    if '"' not in text and "," not in text:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _typed(kind: str, *headers: Mapping[str, str]) -> dict[str, str]:
    """Return ``headers``, later ones first, with a content type unless one of them has it."""
    return dict(ChainMap(*map(dict, reversed(headers)), {"Content-Type": kind}))


def _json_type(model: ServiceModel) -> str:
    return f"application/x-amz-json-{model.json_version}"


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


class _Body:
    """Writes the values of a JSON body."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model

    def structure(self, value: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        """Return a structure as JSON has it."""
        return self.members(value, shape.members)

    def members(self, value: Mapping[str, Any], members: Mapping[str, Member]) -> dict[str, Any]:
        """Return those of ``members`` that have a value."""
        return {
            member.wire_name: self.value(value[name], member)
            for name, member in members.items()
            if value.get(name) is not None
        }

    def value(self, value: Any, member: Member) -> Any:
        """Return one value as JSON has it."""
        shape = self._model.shape(member)
        if shape.document or value is None:
            return value
        if shape.kind is Kind.STRUCTURE:
            return self.structure(value, shape)
        if shape.kind is Kind.LIST and shape.item is not None:
            item = shape.item
            return [self.value(each, item) for each in value]
        if shape.kind is Kind.MAP and shape.item is not None:
            item = shape.item
            return {key: self.value(each, item) for key, each in value.items()}
        return _scalar(value, member, shape)


def _scalar(value: Any, member: Member, shape: Shape) -> Any:
    match shape.kind:
        case Kind.BLOB:
            return base64.b64encode(value).decode()
        case Kind.TIMESTAMP:
            form = member.timestamp_format or shape.timestamp_format or times.UNIX
            return times.written(value, form)
        case Kind.FLOAT | Kind.DOUBLE if not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        case _:
            return value
