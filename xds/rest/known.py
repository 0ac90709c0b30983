"""How scalars and Google's well-known types stand in JSON.

Source: https://protobuf.dev/programming-guides/json/
"""

import base64
import math
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import betterproto2 as bp

from xds.rest.decode import parts_of, varints

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What ``json.dumps`` takes."""

Read = Callable[[Any], Json]
"""From a value as it stands on the wire: a number, or bytes."""

GOOGLE = "google.protobuf."

_FIXED = {
    bp.TYPE_FLOAT: "<f",
    bp.TYPE_FIXED32: "<I",
    bp.TYPE_SFIXED32: "<i",
    bp.TYPE_DOUBLE: "<d",
    bp.TYPE_FIXED64: "<Q",
    bp.TYPE_SFIXED64: "<q",
}
_LONG = frozenset(
    {bp.TYPE_INT64, bp.TYPE_UINT64, bp.TYPE_SINT64, bp.TYPE_FIXED64, bp.TYPE_SFIXED64}
)
"""Types that JSON holds as text, for they do not fit its numbers."""


def scalar(kind: str) -> Read:
    """Return the reader of a scalar of the type ``kind``."""
    if (known := _PLAIN.get(kind)) is not None:
        return known
    if kind in _FIXED:
        return _fixed(kind)
    signed: Callable[[int], int] = int
    if kind in (bp.TYPE_SINT32, bp.TYPE_SINT64):
        signed = _unzigzag
    elif kind in (bp.TYPE_INT32, bp.TYPE_INT64):
        signed = _signed
    return (lambda value: str(signed(value))) if kind in _LONG else signed


def _fixed(kind: str) -> Read:
    layout = struct.Struct(_FIXED[kind])
    if kind in _LONG:
        return lambda value: str(layout.unpack(value)[0])
    return lambda value: _number(layout.unpack(value)[0])


_PLAIN: dict[str, Read] = {
    bp.TYPE_STRING: lambda value: value.decode(),
    bp.TYPE_BYTES: lambda value: base64.b64encode(value).decode(),
    bp.TYPE_BOOL: bool,
}


def enum(cls: type) -> Read:
    """Return the reader of an enum: names, and numbers that have none."""
    members = {int(each): each.proto_name or each.name for each in cls}  # type: ignore[attr-defined]
    return lambda value: members.get(_signed(value), _signed(value))


def _signed(value: int | bytes) -> int:
    number = int(value or 0)
    return number - (1 << 64) if number >> 63 else number


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _number(value: float) -> Json:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() else float(f"{value:.9g}")


def split(kind: str) -> Callable[[bytes], Iterator[Any]]:
    """Return what splits a packed list of the type ``kind``."""
    if kind not in _FIXED:
        return varints
    width = struct.calcsize(_FIXED[kind])
    return lambda raw: iter([raw[at : at + width] for at in range(0, len(raw), width)])


def pair(key: Read, value: Read, default: int | bytes) -> Callable[[bytes], tuple[str, Json]]:
    """Return the reader of an entry of a map, whose value is ``default`` where it is left out."""

    def read(raw: bytes) -> tuple[str, Json]:
        parts = {number: part for number, _, part in parts_of(raw)}
        name = key(parts[1]) if 1 in parts else ""
        text = name if isinstance(name, str) else str(name).lower()
        return text, value(parts.get(2, default))

    return read


def by_number(raw: bytes) -> dict[int, Any]:
    """Return the last value of each field."""
    return {number: value for number, _, value in parts_of(raw)}


def _time(raw: bytes) -> tuple[int, int]:
    fields = by_number(raw)
    return _signed(fields.get(1, 0)), _signed(fields.get(2, 0))


def _fraction(nanos: int) -> str:
    return f".{nanos:09d}".rstrip("0") if nanos else ""


def _duration(raw: bytes) -> Json:
    seconds, nanos = _time(raw)
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _timestamp(raw: bytes) -> Json:
    seconds, nanos = _time(raw)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{_fraction(nanos)}Z"


def _struct(raw: bytes) -> Json:
    read = pair(scalar(bp.TYPE_STRING), _loose, b"")
    return dict(read(value) for _, _, value in parts_of(raw))


def _values(raw: bytes) -> Json:
    return [_loose(value) for _, _, value in parts_of(raw)]


_LOOSE: dict[int, Read] = {
    1: lambda _: None,
    2: lambda value: _number(struct.unpack("<d", value)[0]),
    3: scalar(bp.TYPE_STRING),
    4: bool,
    5: _struct,
    6: _values,
}


def _loose(raw: bytes) -> Json:
    for number, _, value in parts_of(raw):
        return _LOOSE[number](value)
    return None


def _wrapper(kind: str) -> Read:
    read, default = scalar(kind), nothing(kind)
    return lambda raw: read(by_number(raw).get(1, default))


def nothing(kind: str) -> int | bytes:
    """Return what a value of its type's default is on the wire, where it is written at all."""
    if kind in _FIXED:
        return bytes(struct.calcsize(_FIXED[kind]))
    return b"" if kind in (bp.TYPE_STRING, bp.TYPE_BYTES, bp.TYPE_MESSAGE) else 0


KNOWN: dict[str, Read] = {
    GOOGLE + "Duration": _duration,
    GOOGLE + "Timestamp": _timestamp,
    GOOGLE + "Struct": _struct,
    GOOGLE + "Value": _loose,
    GOOGLE + "ListValue": _values,
    GOOGLE + "Empty": lambda _: {},
    GOOGLE + "DoubleValue": _wrapper(bp.TYPE_DOUBLE),
    GOOGLE + "FloatValue": _wrapper(bp.TYPE_FLOAT),
    GOOGLE + "Int64Value": _wrapper(bp.TYPE_INT64),
    GOOGLE + "UInt64Value": _wrapper(bp.TYPE_UINT64),
    GOOGLE + "Int32Value": _wrapper(bp.TYPE_INT32),
    GOOGLE + "UInt32Value": _wrapper(bp.TYPE_UINT32),
    GOOGLE + "BoolValue": _wrapper(bp.TYPE_BOOL),
    GOOGLE + "StringValue": _wrapper(bp.TYPE_STRING),
    GOOGLE + "BytesValue": _wrapper(bp.TYPE_BYTES),
}
"""Readers of the well-known types, by full name; of ``Any`` there is none here."""
