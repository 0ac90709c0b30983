"""The fields of a message as they stand on the wire; the mirror of `xds.encode`'s writers.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Any

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

_WIDTHS = {FIXED64: 8, FIXED32: 4}
_MORE = 0x80
"""The bit of a varint's byte that says that another follows."""
_MASK = (1 << 64) - 1


def parts_of(raw: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield number, wire type and value of each field: a number, or bytes.

    Raises:
        IndexError: ``raw`` is cut short or damaged.
    """
    at, end = 0, len(raw)
    while at < end:
        tag, at = _varint(raw, at)
        wire = tag & 7
        value: int | bytes
        if wire == VARINT:
            value, at = _varint(raw, at)
        else:
            size = _WIDTHS.get(wire)
            if wire == LENGTH:
                size, at = _varint(raw, at)
            if size is None or at + size > end:
                raise IndexError(f"cut short or damaged at byte {at} of {end}")
            value, at = raw[at : at + size], at + size
        yield tag >> 3, wire, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = raw[at]
    if value < _MORE:
        return value, at + 1
    value, shift = value & 0x7F, 7
    while True:
        at += 1
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value & _MASK, at + 1
        shift += 7


def varints(raw: bytes) -> Iterator[int]:
    """Yield the numbers of a packed list."""
    at = 0
    while at < len(raw):
        value, at = _varint(raw, at)
        yield value
