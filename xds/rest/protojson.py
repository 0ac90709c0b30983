"""Envoy's messages as JSON, straight from their bytes; the mirror of `xds.encode`.

One reader is compiled for each class from envoy-data-plane's metadata and kept. Fields have the
names of the ``.proto`` files, as in Envoy's documentation and its ``/config_dump``; every parser
of this JSON takes them. What is packed into an ``Any`` is written out.

Source: https://protobuf.dev/programming-guides/json/
"""

import importlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import betterproto2 as bp
from envoy_data_plane.message_pool import default_message_pool

from wherry.errors import WherryError
from xds.encode import described
from xds.rest.decode import LENGTH, parts_of
from xds.rest.known import GOOGLE, KNOWN, Json, Read, by_number, enum, nothing, pair, scalar, split

_PREFIX = "type.googleapis.com/"
_DAMAGED = (
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError),
    *(RecursionError, struct.error),
)
"""What comes of bytes that are no message of the type: wire types, texts, times out of place."""


class Unreadable(WherryError):
    """A message that cannot be written as JSON."""


def any_json(type_url: str, body: bytes) -> dict[str, Json]:
    """Return a message as the JSON of the ``Any`` that holds it.

    Args:
        type_url: Full type URL.
        body: The message, without the envelope.

    Raises:
        Unreadable: Nobody knows the type, or ``body`` is no message of it.
    """
    read = _reader(_class(type_url))
    try:
        value = read(body)
    except _DAMAGED as error:
        kind = type_url.rpartition("/")[2]
        raise Unreadable(f"{kind}: {error}, expected a message of that type") from None
    if isinstance(value, dict) and not _is_special(type_url):
        return {"@type": type_url, **value}
    return {"@type": type_url, "value": value}


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field is read.

    Attributes:
        name: As in the ``.proto`` file.
        read: Reads one value.
        repeated: Whether it is a list.
        packed: Splits what holds several values in one piece; None when nothing does.
        message: Whether the pieces of one value add up, as those of a message do.
        pair: Reads an entry of a map; None for other fields.
    """

    name: str
    read: Read
    repeated: bool = False
    packed: Callable[[bytes], Iterator[Any]] | None = None
    message: bool = False
    pair: Callable[[bytes], tuple[str, Json]] | None = None


@lru_cache(maxsize=1 << 10)
def _class(type_url: str) -> type[bp.Message]:
    found = default_message_pool.url_to_type.get(type_url)
    if found is None:
        package = type_url.removeprefix(_PREFIX)
        while found is None and "." in package:  # a message within a message is in its package
            package = package.rpartition(".")[0]
            try:
                importlib.import_module(f"envoy_data_plane.{package}")
            except ImportError:
                continue
            found = default_message_pool.url_to_type.get(type_url)
            break
    if found is None:
        raise Unreadable(f"type {type_url!r}: unknown, expected one of Envoy's")
    return found


def _is_special(type_url: str) -> bool:
    return type_url.removeprefix(_PREFIX).startswith(GOOGLE)


@cache
def _reader(cls: type[bp.Message]) -> Read:
    full_name = default_message_pool.type_to_url[cls].removeprefix(_PREFIX)
    if full_name == GOOGLE + "Any":
        return _any
    if (known := KNOWN.get(full_name)) is not None:
        return known
    fields: dict[int, _Field] = {}

    def read(raw: bytes) -> Json:
        if not fields:
            fields.update(_fields(cls))
        return _object(fields, raw)

    return read


def _object(fields: dict[int, _Field], raw: bytes) -> dict[str, Json]:
    found: dict[int, Any] = {}
    for number, wire, value in parts_of(raw):
        field = fields.get(number)
        if field is None:
            continue
        if field.pair is not None:
            name, item = field.pair(value)
            found.setdefault(number, {})[name] = item
        elif field.repeated:
            values = (value,) if field.packed is None or wire != LENGTH else field.packed(value)
            found.setdefault(number, []).extend(map(field.read, values))
        elif field.message:
            found[number] = found.get(number, b"") + value
        else:
            found[number] = field.read(value)
    out: dict[str, Json] = {}
    for number in sorted(found):
        field = fields[number]
        out[field.name] = field.read(found[number]) if field.message else found[number]
    return out


def _fields(cls: type[bp.Message]) -> Iterator[tuple[int, _Field]]:
    metadata = described(cls)
    for attribute, field in metadata.meta_by_field_name.items():
        name = attribute.rstrip("_")
        if field.map_meta is not None:
            key, value = field.map_meta
            of = metadata.cls_by_field.get(f"{attribute}.value", object)
            read = _value(value, of)
            entry = pair(_value(key, str), read, nothing(value.proto_type))
            yield field.number, _Field(name, read, pair=entry)
            continue
        read = _value(field, metadata.cls_by_field[attribute])
        packed = split(field.proto_type) if field.proto_type in bp.PACKED_TYPES else None
        message = field.proto_type == bp.TYPE_MESSAGE and not field.repeated
        yield field.number, _Field(name, read, bool(field.repeated), packed, message)


def _value(field: bp.FieldMetadata, cls: type) -> Read:
    kind = field.proto_type
    if kind == bp.TYPE_MESSAGE:
        return _reader(cls if field.unwrap is None else field.unwrap())
    if kind == bp.TYPE_ENUM:
        return enum(cls)
    return scalar(kind)


def _any(raw: bytes) -> Json:
    fields = by_number(raw)
    return any_json(fields.get(1, b"").decode(), fields.get(2, b""))
