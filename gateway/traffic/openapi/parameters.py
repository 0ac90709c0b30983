"""Parameters of an operation: read from where they stand, and held against their schemas.

Source: OpenAPI 3.1.1, section Parameter Object; RFC 6570
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

from multidict import CIMultiDict

from gateway.call import Fields
from gateway.traffic import json
from gateway.traffic.openapi.document import Document, Path, WrongDocument
from gateway.traffic.openapi.schemas import Schema, Schemas
from gateway.traffic.openapi.violation import Violation

_STYLES = {
    "path": ("simple",),
    "header": ("simple",),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "cookie": ("form",),
}
_DELIMITERS = {"form": ",", "simple": ",", "spaceDelimited": " ", "pipeDelimited": "|"}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_PLAIN = {"true": True, "false": False}
_NOT_PARAMETERS = frozenset({"accept", "content-type", "authorization"})
"""Header parameters by these names count for nothing, says OpenAPI."""


@dataclass(frozen=True, slots=True)
class Values:
    """What a call gives for its parameters.

    Attributes:
        path: Variables of the path.
        query: Names and values, unescaped, in their order; values also as they stood.
        headers: As received.
    """

    path: Mapping[str, str]
    query: Sequence[tuple[str, str, str]]
    headers: Fields

    @classmethod
    def of(cls, path: Mapping[str, str], query: str, headers: Fields) -> "Values":
        """Read a raw query."""
        pairs = []
        for part in query.split("&") if query else ():
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value), value))
        return cls(path, pairs, headers)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        name: As the call spells it; of headers in any case.
        place: ``path``, ``query``, ``header`` or ``cookie``.
        required: Whether it must be given.
        style: How lists and objects are written.
        explode: Whether each item of a list and member of an object stands by itself.
        is_json: Whether its text is JSON.
        schema: Of the value; None: anything.
    """

    name: str
    place: str
    required: bool
    style: str
    explode: bool
    is_json: bool
    schema: Schema | None

    @classmethod
    def of(cls, document: Document, schemas: Schemas, path: Path) -> "Parameter | None":
        """Return the parameter at ``path``; None: it counts for nothing.

        Raises:
            WrongDocument: It cannot be read.
        """
        path = document.follow(path)
        data = document.at(path)
        name, place = data.get("name"), data.get("in")
        if not isinstance(name, str) or not name:
            raise WrongDocument((*path, "name"), "no name", "a name")
        if not isinstance(place, str) or place not in _STYLES:
            expected = "path, query, header or cookie"
            raise WrongDocument((*path, "in"), f"{str(place)[:40]!r}", expected)
        if place == "header" and name.lower() in _NOT_PARAMETERS:
            return None
        style = data.get("style", _STYLES[place][0])
        if style not in _STYLES[place]:
            expected = " or ".join(_STYLES[place])
            raise WrongDocument((*path, "style"), f"{str(style)[:40]!r}", expected)
        required = place == "path" or data.get("required") is True
        explode = data.get("explode", style == "form") is True
        return cls(name, place, required, style, explode, *described(document, schemas, path))

    def violations(self, values: Values) -> list[Violation]:
        """Return where the parameter of a call does not fit."""
        where = f"{self.place} {self.name}"
        try:
            value = self._value(values)
        except _Odd as odd:
            return [Violation(where, odd.found, odd.expected)]
        if value is _ABSENT:
            return [Violation(where, "it is missing", "a value")] if self.required else []
        if self.schema is None:
            return []
        return min((self.schema.violations(where, each) for each in _alternatives(value)), key=len)

    def _value(self, values: Values) -> Any:
        """Return the value, `_ABSENT`, or `_Either` of two.

        Raises:
            _Odd: It is written in a way that is none.
        """
        if self.place == "query" and self.schema is not None and not self.is_json:
            if self.style == "deepObject":
                return self._deep(values, self.schema)
            if self.explode and self.schema.types & {"array", "object"}:
                return self._exploded(values, self.schema)
        found = self._texts(values)
        if len(found) > 1:
            raise _Odd(f"it is given {len(found)} times", "it once")
        return self._read(found[0]) if found else _ABSENT

    def _exploded(self, values: Values, schema: Schema) -> Any:
        if "array" in schema.types:
            items = [text for name, text, _ in values.query if name == self.name]
            return [typed(text, schema.items) for text in items] or _ABSENT
        pairs = [(name, text) for name, text, _ in values.query if name in schema.properties]
        return _object(pairs, schema) if pairs else _ABSENT

    def _read(self, text: str) -> Any:
        if self.is_json:
            return from_json(unquote_plus(text) if self.place == "query" else text)
        return text if self.schema is None else self._split(text, self.schema, self.schema.types)

    def _split(self, text: str, schema: Schema, types: frozenset[str]) -> Any:
        escaped = self.place == "query"
        read = unquote_plus if escaped else str
        if not types & {"array", "object"}:
            return typed(read(text), types)
        delimiter = _DELIMITERS[self.style]
        if escaped and delimiter != ",":
            text = re.sub("%7[cC]|%20|[+]", delimiter, text)
        parts = [read(part).strip(" ") for part in text.split(delimiter)] if text else []
        if "array" in types:
            return [typed(part, schema.items) for part in parts]
        if self.explode:
            pairs = [part.partition("=")[::2] for part in parts]
        elif len(parts) % 2:
            raise _Odd("an odd number of parts", "names and values in turn")
        else:
            pairs = list(zip(parts[::2], parts[1::2], strict=True))
        return _object(pairs, schema)

    def _texts(self, values: Values) -> list[str]:
        match self.place:
            case "path":
                text = values.path.get(self.name)
                return [] if text is None else [text]
            case "query":
                return [raw for name, _, raw in values.query if name == self.name]
            case "header":
                return list(values.headers.getall(self.name, ()))
            case _:
                return _cookies(values.headers, self.name)

    def _deep(self, values: Values, schema: Schema) -> Any:
        begin = self.name + "["
        pairs = [
            (name[len(begin) : -1], text)
            for name, text, _ in values.query
            if name.startswith(begin) and name.endswith("]")
        ]
        return _object(pairs, schema) if pairs else _ABSENT


def described(
    document: Document, schemas: Schemas, path: Path, *, answer: bool = False
) -> tuple[bool, Schema | None]:
    """Return whether the value of a parameter or header at ``path`` is JSON, and its schema.

    Args:
        document: Where it is described.
        schemas: Of that document.
        path: Of the parameter or header.
        answer: Whether it goes to the client.

    Raises:
        WrongDocument: The schema is none.
    """
    data = document.at(path)
    if "schema" in data:
        return False, schemas.compiled((*path, "schema"), answer=answer)
    for media in document.at((*path, "content")):
        place = (*path, "content", media)
        is_json = json.is_json(CIMultiDict({"Content-Type": media}))
        if is_json and "schema" in document.at(place):
            return True, schemas.compiled((*place, "schema"), answer=answer)
    return False, None


def typed(text: str, types: frozenset[str]) -> Any:
    """Return ``text`` as the one of ``types`` that it can be; several at once is `_Either`."""
    value: Any = text
    if types & {"integer", "number"} and _NUMBER.fullmatch(text):
        value = json.loads(text.encode()) if abs(float(text)) < float("inf") else text
    elif "boolean" in types and text in _PLAIN:
        value = _PLAIN[text]
    elif "null" in types and text in ("", "null"):
        value = None
    if value is not text and "string" in types:
        return _Either((value, text))
    return value


def from_json(text: str) -> Any:
    """Return the value of JSON in a parameter or header.

    Raises:
        _Odd: It is none.
    """
    try:
        return json.loads(text.encode(errors="surrogateescape"))
    except json.BadJson as error:
        raise _Odd(str(error), "JSON") from None


class _Odd(ValueError):
    """A parameter is written in a way that is none."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found)
        self.found, self.expected = found, expected


@dataclass(frozen=True, slots=True)
class _Either:
    """A text that may be meant as a string or as something else."""

    values: tuple[Any, ...]


_ABSENT = object()


def _alternatives(value: Any) -> Iterator[Any]:
    """Yield the value in the ways it may be meant: all as what they look like, all as strings."""
    if isinstance(value, _Either):
        yield from value.values
        return
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(each, _Either) for each in inner):
        yield value
        return
    for place in (0, 1):
        if isinstance(value, dict):
            yield {name: _meant(each, place) for name, each in value.items()}
        else:
            yield [_meant(each, place) for each in value]


def _meant(value: Any, place: int) -> Any:
    return value.values[place] if isinstance(value, _Either) else value


def _object(pairs: Sequence[tuple[str, str]], schema: Schema) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Odd("a member is given twice", "each once")
    return {name: typed(text, schema.properties.get(name, frozenset())) for name, text in pairs}


def _cookies(headers: Fields, name: str) -> list[str]:
    found = []
    for line in headers.getall("Cookie", ()):
        for part in line.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                found.append(unquote(value.strip(chr(34))))
    return found
