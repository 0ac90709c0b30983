"""Structured fields, as far as signatures and digests use them: dictionaries of lists and bytes.

Source: RFC 9651
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_MEMBERS = 64
"""Most members, items of a list, and parameters."""

_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])", re.ASCII)
_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', re.ASCII)
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*", re.ASCII)
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):", re.ASCII)
_BOOLEAN = re.compile(r"\?([01])", re.ASCII)
_SPACES = re.compile(r" *", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*", re.ASCII)
_ESCAPED = re.compile(r"\\(.)")


class Token(str):
    """A word without quotes."""

    __slots__ = ()


Bare = str | int | bool | bytes
"""An item without its parameters; text is a string unless it is a `Token`."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value with parameters.

    Attributes:
        value: The value; of an inner list, its items.
        parameters: By name, in order.
    """

    value: "Bare | tuple[Item, ...]"
    parameters: Mapping[str, Bare] = field(default_factory=dict)


def dictionary(text: str) -> Mapping[str, Item]:
    """Read a dictionary.

    Args:
        text: The field's lines with ``, `` between them.

    Raises:
        ValueError: It is none, or has too many members.
    """
    reader = _Reader(text.strip(" "))
    found: dict[str, Item] = {}
    while not reader.at_end:
        name = reader.take(_KEY, "a name")
        if reader.skip("="):
            found[name] = reader.member()
        else:
            found[name] = Item(True, reader.parameters())
        if reader.at_end:
            break
        reader.take(_COMMA, "a comma")
        if reader.at_end or len(found) > MAX_MEMBERS:
            raise ValueError(f"dictionary: a comma at its end, or over {MAX_MEMBERS} members")
    return found


def written(item: Item) -> str:
    """Return ``item`` in its one spelling."""
    if isinstance(item.value, tuple):
        body = f"({' '.join(map(written, item.value))})"
    else:
        body = _bare(item.value)
    return body + "".join(
        f";{name}" if value is True else f";{name}={_bare(value)}"
        for name, value in item.parameters.items()
    )


def _bare(value: Bare) -> str:
    match value:
        case bool():
            return f"?{value:d}"
        case int():
            return str(value)
        case bytes():
            return f":{b64encode(value).decode()}:"
        case Token():
            return value
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._text)

    def skip(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found

    def take(self, form: re.Pattern[str], expected: str) -> str:
        found = self._match(form)
        if found is None:
            raise ValueError(f"structured field at {self._at}: expected {expected}")
        return found[0]

    def member(self) -> Item:
        if not self.skip("("):
            return self.item()
        items: list[Item] = []
        self.take(_SPACES, "spaces")
        while not self.skip(")"):
            items.append(self.item())
            before = self._at
            self.take(_SPACES, "spaces")
            apart = self._at > before or self._text.startswith(")", self._at)
            if not apart or len(items) > MAX_MEMBERS:
                raise ValueError(f"inner list: no space or end, or over {MAX_MEMBERS} items")
        return Item(tuple(items), self.parameters())

    def item(self) -> Item:
        return Item(self._value(), self.parameters())

    def parameters(self) -> Mapping[str, Bare]:
        found: dict[str, Bare] = {}
        while self.skip(";"):
            self.take(_SPACES, "spaces")
            name = self.take(_KEY, "a name")
            found.pop(name, None)
            found[name] = self._value() if self.skip("=") else True
            if len(found) > MAX_MEMBERS:
                raise ValueError(f"parameters: over {MAX_MEMBERS}")
        return found

    def _value(self) -> Bare:
        if (found := self._match(_STRING)) is not None:
            return _ESCAPED.sub(r"\1", found[1])
        if (found := self._match(_BYTES)) is not None:
            return _decoded(found[1])
        if (found := self._match(_INTEGER)) is not None:
            return int(found[0])
        if (found := self._match(_BOOLEAN)) is not None:
            return found[1] == "1"
        return Token(self.take(_TOKEN, "a string, number, word or bytes"))

    def _match(self, form: re.Pattern[str]) -> re.Match[str] | None:
        found = form.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("byte sequence: expected base64") from None
