"""Schemas as rows of a table, and an example of what fits them.

Source: OpenAPI 3.0 and 3.1, schema objects; RFC 6901 for ``$ref``
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from wherry.pointer import steps_of

MAX_DEPTH = 8
"""How deep a schema is shown; what is deeper is named only."""

MAX_ROWS = 400
"""Most rows of one schema."""

_MAX_HOPS = 16
_MAX_MEMBERS = 60
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "over"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "under"),
    ("minLength", "length at least"),
    ("maxLength", "length at most"),
    ("minItems", "items at least"),
    ("maxItems", "items at most"),
    ("pattern", "pattern"),
    ("default", "default"),
)
_EXAMPLES: Mapping[str, object] = {
    "date-time": "2026-01-31T09:30:00Z",
    "date": "2026-01-31",
    "time": "09:30:00Z",
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "byte": "aGVsbG8=",
}

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Row:
    """One member of a schema.

    Attributes:
        depth: 0 for the members of the outermost object.
        name: Of the member; ``[ ]`` stands for each item of a list.
        kind: Its type in words.
        required: Whether it must be there.
        about: Its description.
        bounds: What else must hold, in words.
    """

    depth: int
    name: str
    kind: str
    required: bool
    about: str
    bounds: str


class Refs:
    """Finds what ``$ref`` means within one document; nothing outside of it is ever read."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document

    def resolved(self, given: object) -> Schema:
        """Return the object that ``given`` is or refers to; empty when there is none."""
        for _ in range(_MAX_HOPS):
            if not isinstance(given, Mapping):
                return {}
            ref = given.get("$ref")
            if not isinstance(ref, str):
                return given
            given = self._at(ref)
        return {}

    def named(self, given: object) -> str | None:
        """Return the last part of the reference that ``given`` is."""
        ref = given.get("$ref") if isinstance(given, Mapping) else None
        return ref.rpartition("/")[2] if isinstance(ref, str) else None

    def _at(self, ref: str) -> object:
        if not ref.startswith("#/"):
            return None
        place: object = self._document
        for step in steps_of(unquote(ref)):
            place = place.get(step) if isinstance(place, Mapping) else None
        return place


def rows(refs: Refs, schema: object) -> Sequence[Row]:
    """Return the members of a schema and of what is in them."""
    found = []
    for row in _members(refs, schema, 0, ()):
        found.append(row)
        if len(found) == MAX_ROWS:
            break
    return found


def kind(refs: Refs, given: object) -> str:
    """Return the type of a schema in words."""
    schema = refs.resolved(given)
    name = refs.named(given)
    for word, joint in (("oneOf", " or "), ("anyOf", " or ")):
        options = schema.get(word)
        if isinstance(options, list):
            return joint.join(dict.fromkeys(kind(refs, each) for each in _few(options)))
    plain = _plain(schema)
    if plain == "array":
        items = schema.get("items")
        inner = refs.named(items) or str(refs.resolved(items).get("type", "anything"))
        return f"list of {inner}"
    if plain == "object" and name:
        return name
    form = schema.get("format")
    return f"{plain} ({form})" if isinstance(form, str) else plain


def example(refs: Refs, given: object, above: tuple[str, ...] = ()) -> object:
    """Return a value that fits a schema: its own example, else one made up.

    Args:
        refs: Of the document.
        given: The schema.
        above: Names of the schemas that it is in; a member that is one of these is left out.
    """
    name = refs.named(given)
    inside = (*above, name or "")
    schema = refs.resolved(given)
    for word in ("example", "const", "default"):
        if word in schema:
            return schema[word]
    for word in ("examples", "enum"):
        listed = schema.get(word)
        if isinstance(listed, list) and listed:
            return listed[0]
    if len(inside) > MAX_DEPTH:
        return None
    for word in ("oneOf", "anyOf"):
        options = schema.get(word)
        if isinstance(options, list) and options:
            return example(refs, options[0], inside)
    return _made_up(refs, schema, inside)


def shown(value: object) -> str:
    """Return a value as the text of an example."""
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    )


def _made_up(refs: Refs, schema: Schema, inside: tuple[str, ...]) -> object:
    match _plain(schema):
        case "object":
            members = _properties(refs, schema)
            return {
                name: example(refs, each, inside)
                for name, (each, _) in members.items()
                if not _again(refs, each, inside)
            }
        case "array":
            items = schema.get("items")
            return [] if _again(refs, items, inside) else [example(refs, items, inside)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _EXAMPLES.get(str(schema.get("format")), "text")


def _again(refs: Refs, given: object, inside: tuple[str, ...]) -> bool:
    return (refs.named(given) or "?") in inside


def _members(refs: Refs, given: object, depth: int, above: tuple[str, ...]) -> Iterator[Row]:
    name = refs.named(given)
    if depth >= MAX_DEPTH or (name is not None and name in above):
        return
    inside = (*above, name) if name else above
    schema = refs.resolved(given)
    if _plain(schema) == "array":
        if depth == 0:
            yield _row(refs, 0, "[ ]", (schema.get("items"), False))
            yield from _members(refs, schema.get("items"), 1, inside)
        else:
            yield from _members(refs, schema.get("items"), depth, inside)
        return
    for word in ("oneOf", "anyOf"):
        options = schema.get(word)
        for option in _few(options) if isinstance(options, list) else ():
            yield from _members(refs, option, depth, inside)
    for member, (each, required) in _properties(refs, schema).items():
        yield _row(refs, depth, member, (each, required))
        yield from _members(refs, each, depth + 1, inside)


def _row(refs: Refs, depth: int, name: str, member: tuple[object, bool]) -> Row:
    schema = refs.resolved(member[0])
    about = str(schema.get("description", ""))
    return Row(depth, name, kind(refs, member[0]), member[1], about, _bounds(schema))


def _bounds(schema: Schema) -> str:
    said = [f"{words} {schema[word]}" for word, words in _BOUNDS if word in schema]
    if isinstance(listed := schema.get("enum"), list):
        said.insert(0, "one of " + ", ".join(str(each) for each in _few(listed)))
    return "; ".join(said)


def _properties(refs: Refs, schema: Schema) -> dict[str, tuple[object, bool]]:
    """Return members with whether each is required, those of every ``allOf`` part among them."""
    found: dict[str, tuple[object, bool]] = {}
    parts = [schema]
    every = schema.get("allOf")
    parts += [refs.resolved(each) for each in _few(every)] if isinstance(every, list) else []
    required = {
        name
        for part in parts
        if isinstance(listed := part.get("required"), list)
        for name in listed
        if isinstance(name, str)
    }
    for part in parts:
        members = part.get("properties")
        for name, each in members.items() if isinstance(members, Mapping) else ():
            if len(found) < _MAX_MEMBERS:
                found[str(name)] = each, str(name) in required
    return found


def _plain(schema: Schema) -> str:
    given = schema.get("type")
    if isinstance(given, list):
        return next((str(each) for each in given if each != "null"), "null")
    if isinstance(given, str):
        return given
    if "properties" in schema or "allOf" in schema:
        return "object"
    return "array" if "items" in schema else "anything"


def _few(listed: list[object]) -> list[object]:
    return listed[:_MAX_MEMBERS]
