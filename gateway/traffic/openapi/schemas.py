"""Schemas of a document, compiled: one view for what clients send, one for what they get.

In the first, members that are read-only need not be there; in the second, those that are
write-only. OpenAPI 3.0 has a JSON Schema of its own, which is put in terms of draft 4.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any
from urllib.parse import quote
from uuid import UUID

import jsonschema_rs

from gateway.traffic.openapi.branching import Branching
from gateway.traffic.openapi.document import DATA, Document, Path, WrongDocument, pointer
from gateway.traffic.openapi.violation import MAX_VIOLATIONS, Violation, of_error, of_whole

_URI = "urn:openapi"
_LINEAR = "a pattern that takes linear time: no look-around, no reference back, no huge count"
_JOINS = ("allOf", "anyOf", "oneOf")
_INT32 = range(-(1 << 31), 1 << 31)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


_FORMATS: dict[str, Callable[..., bool]] = {"date": _is_date, "uuid": _is_uuid}


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema, compiled.

    Attributes:
        types: Names of the types that a value may have; empty: any.
        properties: Types of the members of an object, as far as they are described.
        items: Types of the items of a list.
        validator: Compiled.
        branches: Whether it is told only that a value does not fit; see `branching`.
    """

    types: frozenset[str]
    properties: Mapping[str, frozenset[str]]
    items: frozenset[str]
    validator: jsonschema_rs.Validator
    branches: bool

    def violations(self, where: str, value: Any) -> list[Violation]:
        """Return where ``value`` does not fit; at most `MAX_VIOLATIONS`."""
        if self.validator.is_valid(value):
            return []
        if self.branches:
            return [of_whole(where, value)]
        errors = islice(self.validator.iter_errors(value), MAX_VIOLATIONS)
        return [of_error(where, error) for error in errors]


class Schemas:
    """The schemas of one document.

    Args:
        document: Where they are.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._draft = (jsonschema_rs.Draft4, jsonschema_rs.Draft202012)[document.minor]
        self._views = {
            answer: jsonschema_rs.Registry(
                [(_URI, _view(document, answer=answer))], draft=self._draft
            )
            for answer in (False, True)
        }
        self._branching = Branching(document)
        self._compiled: dict[tuple[Path, bool], Schema] = {}

    def compiled(self, path: Path, *, answer: bool) -> Schema:
        """Return the schema at ``path``.

        Args:
            path: Of a schema, or of a reference to one.
            answer: Whether the value goes to the client.

        Raises:
            WrongDocument: It is no schema.
        """
        place = path, answer
        if place not in self._compiled:
            value: Any = self._document.data
            for step in path:
                value = value[step]
            if not isinstance(value, bool):
                path = self._document.follow(path)
            self._compiled[place] = Schema(
                frozenset(self._types(path)),
                {name: frozenset(self._types(each)) for name, each in self._members(path)},
                frozenset(self._item_types(path)),
                self._validator(path, answer=answer),
                self._branching.of(path),
            )
        return self._compiled[place]

    def _validator(self, path: Path, *, answer: bool) -> jsonschema_rs.Validator:
        make = (jsonschema_rs.Draft4Validator, jsonschema_rs.Draft202012Validator)
        try:
            return make[self._document.minor](
                {"$ref": _URI + _escaped(path)},
                registry=self._views[answer],
                formats=_FORMATS,
                validate_formats=True,
                # An engine that goes back can be kept busy for minutes by one body.
                pattern_options=jsonschema_rs.RegexOptions(),
                offline=True,
            )
        except (jsonschema_rs.ValidationError, ValueError) as error:
            where = tuple(getattr(error, "instance_path", ())) or path
            message = str(getattr(error, "message", error)).splitlines()[0]
            if message.endswith('is not a "regex"'):
                raise WrongDocument(where, f"pattern {message[:120]}", _LINEAR) from None
            raise WrongDocument(where, f"no schema ({message[:120]})", "a JSON schema") from None

    def _types(self, path: Path, depth: int = 0) -> Iterator[str]:
        for each in self._parts(path, depth):
            given = self._document.at(each).get("type")
            types = given if isinstance(given, list) else [given]
            yield from (name for name in types if isinstance(name, str))
            if self._document.at(each).get("nullable") is True:
                yield "null"

    def _members(self, path: Path) -> Iterator[tuple[str, Path]]:
        for each in self._parts(path):
            for name, value in self._document.at((*each, "properties")).items():
                if isinstance(value, Mapping):
                    yield name, (*each, "properties", name)

    def _item_types(self, path: Path) -> Iterator[str]:
        for each in self._parts(path):
            if isinstance(self._document.at(each).get("items"), Mapping):
                yield from self._types((*each, "items"))

    def _parts(self, path: Path, depth: int = 0) -> Iterator[Path]:
        """Yield a schema and those it is joined from, as far as eight deep."""
        value: Any = self._document.data
        for step in path:
            value = value[step]
        if not isinstance(value, Mapping) or depth > 8:  # noqa: PLR2004
            return
        path = self._document.follow(path)
        yield path
        for join in _JOINS:
            if isinstance(self._document.at(path).get(join), list):
                for place in range(len(self._document.items((*path, join)))):
                    yield from self._parts((*path, join, place), depth + 1)


def _escaped(path: Path) -> str:
    return "#" + quote(pointer(path)[1:], safe="/~-._!$&'()*+,;=:@")


def _view(document: Document, *, answer: bool) -> dict[str, Any]:
    hidden = "writeOnly" if answer else "readOnly"

    def seen(value: Any) -> Any:
        if isinstance(value, list):
            return [seen(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        made = {
            name: each if name in DATA and not isinstance(each, Mapping) else seen(each)
            for name, each in value.items()
        }
        if isinstance(value.get("$ref"), str):
            made["$ref"] = _escaped(document.target((), value["$ref"]))
        if isinstance(value.get("required"), list) and isinstance(value.get("properties"), Mapping):
            _without(document, made, value["properties"], hidden)
        return _in_draft_4(made) if document.minor == 0 else _bounded(made)

    view: dict[str, Any] = seen(document.data)
    return view


def _without(
    document: Document, made: dict[str, Any], properties: Mapping[str, Any], hidden: str
) -> None:
    def is_hidden(name: object) -> bool:
        member = properties.get(name) if isinstance(name, str) else None
        if isinstance(member, Mapping) and isinstance(member.get("$ref"), str):
            path = document.follow(document.target((), member["$ref"]))
            member = {**document.at(path), **member}
        return isinstance(member, Mapping) and member.get(hidden) is True

    made["required"] = [name for name in made["required"] if not is_hidden(name)]
    if not made["required"]:
        del made["required"]  # draft 4 wants at least one


def _in_draft_4(made: dict[str, Any]) -> dict[str, Any]:
    made = _bounded(made)
    if made.get("nullable") is not True:
        return made
    if isinstance(made.get("type"), str):
        return made | {"type": [made["type"], "null"]}
    if any(isinstance(made.get(join), list) for join in _JOINS):
        return {"anyOf": [{"type": "null"}, made]}
    return made


def _bounded(made: dict[str, Any]) -> dict[str, Any]:
    """Put the range of ``int32`` in words that validators know."""
    if made.get("format") == "int32" and made.get("type") == "integer":
        made.setdefault("minimum", _INT32.start)
        made.setdefault("maximum", _INT32.stop - 1)
    return made
