"""A service as botocore describes it: operations, shapes and where each value travels. Pure.

Source: botocore's ``service-2.json`` documents; https://smithy.io/2.0/aws/protocols/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The types that a shape can have."""

    STRUCTURE = "structure"
    LIST = "list"
    MAP = "map"
    STRING = "string"
    BLOB = "blob"
    TIMESTAMP = "timestamp"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BOOLEAN = "boolean"


NUMBERS = frozenset({Kind.INTEGER, Kind.LONG, Kind.FLOAT, Kind.DOUBLE})


class Location(StrEnum):
    """Where a member of an operation's input or output travels."""

    BODY = "body"
    URI = "uri"
    QUERY = "querystring"
    HEADER = "header"
    HEADERS = "headers"
    STATUS = "statusCode"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a structure, or the items of a list or a map.

    Attributes:
        shape: Name of its shape.
        location: Where it travels, when its structure is an operation's input or output.
        wire_name: What it is called there; of `Location.HEADERS`, the prefix.
        timestamp_format: ``iso8601``, ``rfc822``, ``unixTimestamp``; empty: the usual of the
            location.
        json_value: Whether a header has it as JSON in base64.
        event_payload: Whether it is an event's bytes.
        event_header: Whether it is a header of an event.
    """

    shape: str
    location: Location = Location.BODY
    wire_name: str = ""
    timestamp_format: str = ""
    json_value: bool = False
    event_payload: bool = False
    event_header: bool = False

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> "Member":
        """Read a member as botocore writes it; ``name`` is what boto3 calls it."""
        return cls(
            shape=document["shape"],
            location=Location(document.get("location", "body")),
            wire_name=document.get("locationName", name),
            timestamp_format=document.get("timestampFormat", ""),
            json_value=bool(document.get("jsonvalue")),
            event_payload=bool(document.get("eventpayload")),
            event_header=bool(document.get("eventheader")),
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """A type of a service.

    Attributes:
        members: Of a structure, by the names that boto3 uses.
        item: What a list holds, or the values of a map.
        key: The keys of a map.
        payload: Name of the member that is the whole body; empty: the body is JSON.
        least: Least value of a number, length of a text or size of a list or map.
        most: The most of it.
        sensitive: Whether a value may not be said back.
        document: Whether it is any JSON.
        event_stream: Whether its members are the events of a stream.
        error_code: What an error is called in answers, when not by its shape.
        status: The HTTP status of an error; 0: none of its own.
        sender_fault: Whether an error is the caller's.
    """

    name: str
    kind: Kind
    members: Mapping[str, Member] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    item: Member | None = None
    key: Member | None = None
    payload: str = ""
    enum: tuple[str, ...] = ()
    pattern: str = ""
    least: float | None = None
    most: float | None = None
    timestamp_format: str = ""
    sensitive: bool = False
    document: bool = False
    event_stream: bool = False
    error_code: str = ""
    status: int = 0
    sender_fault: bool = False

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> "Shape":
        """Read a shape as botocore writes it."""
        kind = "string" if document["type"] == "character" else document["type"]
        item = document.get("member") or document.get("value")
        error = document.get("error", {})
        return cls(
            name=name,
            kind=Kind(kind),
            members={
                key: Member.of(key, member) for key, member in document.get("members", {}).items()
            },
            required=tuple(document.get("required", ())),
            item=None if item is None else Member.of("member", item),
            key=None if "key" not in document else Member.of("key", document["key"]),
            payload=document.get("payload", ""),
            enum=tuple(document.get("enum", ())),
            pattern=document.get("pattern", ""),
            least=document.get("min"),
            most=document.get("max"),
            timestamp_format=document.get("timestampFormat", ""),
            sensitive=bool(document.get("sensitive")),
            document=bool(document.get("document")),
            event_stream=bool(document.get("eventstream")),
            error_code=error.get("code", ""),
            status=error.get("httpStatusCode", 0),
            sender_fault=bool(error.get("senderFault")),
        )


@dataclass(frozen=True, slots=True)
class OperationModel:
    """One operation as the model has it.

    Attributes:
        uri: ``/2015-03-31/functions/{FunctionName}``, perhaps with fixed query parts.
        status: Of an answer, when the operation says nothing else.
        input: Its parameters; a structure.
        output: Its answer; a structure.
        events: Name of the output's member that is a stream of events; empty: none.
        deprecated: Whether AWS says so.
    """

    name: str
    method: str
    uri: str
    status: int
    input: Shape
    output: Shape
    events: str = ""
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """All of a service.

    Attributes:
        name: As botocore names it, such as ``lambda``.
        signing_name: What callers sign for.
        protocol: ``rest-json``: operations are told by their path; ``json``: by a header.
        json_version: Of the protocol ``json``.
        target_prefix: What that header begins with, without the dot.
        query_compatible: Whether errors carry the codes of the older query protocol, too.
    """

    name: str
    signing_name: str
    protocol: str
    operations: Mapping[str, OperationModel]
    shapes: Mapping[str, Shape]
    json_version: str = ""
    target_prefix: str = ""
    query_compatible: bool = False

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> "ServiceModel":
        """Read a service as botocore writes it.

        Raises:
            ValueError: Its protocol is neither ``rest-json`` nor ``json``.
        """
        metadata = document["metadata"]
        offered = {metadata["protocol"], *metadata.get("protocols", ())}
        protocol = next((each for each in ("rest-json", "json") if each in offered), None)
        if protocol is None:
            raise ValueError(f"service {name}: protocols {offered}, expected rest-json or json")
        shapes = {key: Shape.of(key, shape) for key, shape in document["shapes"].items()}
        return cls(
            name=name,
            signing_name=metadata.get("signingName", metadata["endpointPrefix"]),
            protocol=protocol,
            operations={
                key: _operation(operation, shapes)
                for key, operation in document["operations"].items()
            },
            shapes=shapes,
            json_version=metadata.get("jsonVersion", ""),
            target_prefix=metadata.get("targetPrefix", ""),
            query_compatible="awsQueryCompatible" in metadata,
        )

    def shape(self, member: Member) -> Shape:
        """Return the shape of a member."""
        return self.shapes[member.shape]


_NOTHING = Shape("", Kind.STRUCTURE)


def _operation(document: Mapping[str, Any], shapes: Mapping[str, Shape]) -> OperationModel:
    http = document["http"]
    given, gives = (
        shapes[document[side]["shape"]] if side in document else _NOTHING
        for side in ("input", "output")
    )
    body = gives.members.get(gives.payload)
    return OperationModel(
        name=document["name"],
        method=http["method"],
        uri=http["requestUri"],
        status=http.get("responseCode", 200),
        input=given,
        output=gives,
        events=gives.payload if body is not None and shapes[body.shape].event_stream else "",
        deprecated=bool(document.get("deprecated")),
    )
