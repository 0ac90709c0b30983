"""Message classes from a table of fields: no generated code, no shared registry.

Each table gets a ``DescriptorPool`` of its own, so that it never clashes with stubs of the same
messages that somebody else installed. Unknown fields are kept, as protobuf asks.

One message a line; a line that starts with a field continues it; ``#`` starts a comment::

    Node(envoy.config.core.v3.Node) id:s=1 metadata:.google.protobuf.Struct=3
    Peer address:Address=1 labels:map<s,s>=2 names:*s=3 port:u32=4@where pipe:s=5@where

A field is ``name:type=number``. Types are ``s`` string, ``by`` bytes, ``b`` bool, ``i32``,
``i64``, ``u32``, ``u64``, ``f`` float, ``d`` double, ``enum`` (an open enum, read as int), a
message of the same table, or a well-known type with its full name and a leading dot. ``*`` stands
for repeated, ``map<k,v>`` for a map and ``@name`` puts the field into the oneof of that name.
The name in parentheses is the message that a line copies; tests compare the two.

Source: https://protobuf.dev/programming-guides/encoding/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)

SCALARS: Mapping[str, FieldDescriptorProto.Type.ValueType] = {
    "s": FieldDescriptorProto.TYPE_STRING,
    "by": FieldDescriptorProto.TYPE_BYTES,
    "b": FieldDescriptorProto.TYPE_BOOL,
    "i32": FieldDescriptorProto.TYPE_INT32,
    "i64": FieldDescriptorProto.TYPE_INT64,
    "u32": FieldDescriptorProto.TYPE_UINT32,
    "u64": FieldDescriptorProto.TYPE_UINT64,
    "f": FieldDescriptorProto.TYPE_FLOAT,
    "d": FieldDescriptorProto.TYPE_DOUBLE,
    "enum": FieldDescriptorProto.TYPE_INT32,
}
"""Scalar types of a table; an enum is an int32 on the wire."""

_MESSAGE = re.compile(r"(?P<name>\w+)(\((?P<upstream>[\w.]+)\))?")
_FIELD = re.compile(
    r"(?P<name>\w+):(?P<repeated>\*)?"
    r"(map<(?P<key>\w+),(?P<value>[\w.]+)>|(?P<type>[\w.]+))=(?P<number>\d+)(@(?P<oneof>\w+))?"
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a table.

    Attributes:
        name: As in the ``.proto`` file.
        number: As in the ``.proto`` file.
        type: Type as the table writes it; of a map, the type of its values.
        key: Type of a map's keys, None unless it is a map.
        repeated: Whether it is a list; False for a map.
        oneof: Name of the oneof it belongs to, or None.
    """

    name: str
    number: int
    type: str
    key: str | None = None
    repeated: bool = False
    oneof: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """One line of a table.

    Attributes:
        name: Name of the message within the table.
        upstream: Full name of the message it copies, or None for one of our own.
        fields: In the order of the line.
    """

    name: str
    upstream: str | None
    fields: tuple[Field, ...]


class Messages(dict[str, type[Any]]):
    """Message classes by name, and the shapes they were built from.

    The classes are typed ``Any``: their attributes exist at run time only. Each room keeps them
    inside its ``wire.py`` and gives out values of its own.
    """

    def __init__(self, classes: Mapping[str, type[Any]], shapes: tuple[Shape, ...]) -> None:
        super().__init__(classes)
        self.shapes = shapes


def messages(package: str, spec: str) -> Messages:
    """Build one upb message class for each line of ``spec``.

    Args:
        package: Protobuf package of the classes, unique within the process only for clarity.
        spec: The table, see the module.

    Raises:
        ValueError: A line is not of that form.
        TypeError: A type, name or number does not fit the others.
    """
    shapes = tuple(_shape(line) for line in _lines(spec))
    pool = descriptor_pool.DescriptorPool()
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for module in _WELL_KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        file.dependency.append(module.DESCRIPTOR.name)
    for shape in shapes:
        _describe(file.message_type.add(name=shape.name), shape, package)
    pool.AddSerializedFile(file.SerializeToString())
    return Messages(
        {
            shape.name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"{package}.{shape.name}")
            )
            for shape in shapes
        },
        shapes,
    )


def _lines(spec: str) -> list[str]:
    lines: list[str] = []
    for line in spec.splitlines():
        text = line.partition("#")[0].strip()
        if ":" in text.partition(" ")[0] and lines:
            lines[-1] += f" {text}"
        elif text:
            lines.append(text)
    return lines


def _shape(line: str) -> Shape:
    head, *rest = line.split()
    message = _MESSAGE.fullmatch(head)
    if message is None:
        raise ValueError(f"message {head!r}: not a name, expected Name or Name(full.upstream.Name)")
    return Shape(message["name"], message["upstream"], tuple(_field(head, text) for text in rest))


def _field(message: str, text: str) -> Field:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise ValueError(f"field {text!r} of {message}: unreadable, expected name:type=number")
    return Field(
        match["name"],
        int(match["number"]),
        match["value"] or match["type"],
        match["key"],
        match["repeated"] is not None,
        match["oneof"],
    )


def _describe(message: DescriptorProto, shape: Shape, package: str) -> None:
    oneofs: dict[str, int] = {}
    for field in shape.fields:
        if field.oneof and field.oneof not in oneofs:
            oneofs[field.oneof] = len(oneofs)
            message.oneof_decl.add(name=field.oneof)
    for field in shape.fields:
        entry = message.field.add(
            name=field.name, number=field.number, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
        if field.repeated or field.key:
            entry.label = FieldDescriptorProto.LABEL_REPEATED
        if field.oneof:
            entry.oneof_index = oneofs[field.oneof]
        if field.key:
            _describe_map(message, field, package)
            entry.type = FieldDescriptorProto.TYPE_MESSAGE
            entry.type_name = f".{package}.{shape.name}.{_entry_name(field)}"
        else:
            _set_type(entry, field.type, package)


def _describe_map(message: DescriptorProto, field: Field, package: str) -> None:
    entry = message.nested_type.add(name=_entry_name(field))
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", field.key), ("value", field.type)), start=1):
        part = entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        _set_type(part, str(kind), package)


def _set_type(entry: FieldDescriptorProto, kind: str, package: str) -> None:
    if kind in SCALARS:
        entry.type = SCALARS[kind]
    else:
        entry.type = FieldDescriptorProto.TYPE_MESSAGE
        entry.type_name = kind if kind.startswith(".") else f".{package}.{kind}"


def _entry_name(field: Field) -> str:
    return "".join(part.title() for part in field.name.split("_")) + "Entry"
