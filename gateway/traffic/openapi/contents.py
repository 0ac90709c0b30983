"""Bodies by their media types.

Source: OpenAPI 3.1.1, section Media Type Object
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from gateway.call import Fields
from gateway.traffic import json
from gateway.traffic.openapi.document import Document, Path
from gateway.traffic.openapi.parameters import typed
from gateway.traffic.openapi.schemas import Schema, Schemas
from gateway.traffic.openapi.violation import Violation

FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class Content:
    """What a body may be.

    Attributes:
        required: Whether there must be one.
        media: Schemas by media type or range like ``image/*``; None: nothing is known.
    """

    required: bool
    media: Mapping[str, Schema | None]

    @classmethod
    def of(
        cls, document: Document, schemas: Schemas, path: Path, *, answer: bool, required: bool
    ) -> "Content":
        """Return what ``content`` at ``path`` describes.

        Raises:
            WrongDocument: It cannot be read.
        """
        media: dict[str, Schema | None] = {}
        for name, value in document.at(path).items():
            place = (*path, name)
            described = "schema" in document.at(place) and isinstance(value, Mapping)
            media[name.partition(";")[0].strip().lower()] = (
                schemas.compiled((*place, "schema"), answer=answer) if described else None
            )
        return cls(required, media)

    def violations(self, headers: Fields, body: bytes) -> list[Violation]:
        """Return where a body does not fit."""
        if not body:
            return [Violation("body", "none", "a body")] if self.required else []
        if not self.media:
            return [Violation("body", "a body", "none")]
        kinds = headers.getall("Content-Type", ["none"])
        given = kinds[0].partition(";")[0].strip().lower()
        found = self._kind(given)
        if len(kinds) > 1 or found is None:
            said = given[:80] if len(kinds) == 1 else f"{len(kinds)} of them"
            return [Violation("header Content-Type", said, self._expected)]
        return _of_kind(self.media[found], given, headers, body)

    @property
    def _expected(self) -> str:
        return " or ".join(self.media)[:160]

    def _kind(self, given: str) -> str | None:
        if given in self.media:
            return given
        ranges = (given.partition("/")[0] + "/*", "*/*", "*")
        return next((each for each in ranges if each in self.media), None)


def _of_kind(schema: Schema | None, kind: str, headers: Fields, body: bytes) -> list[Violation]:
    if headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        return [Violation("header Content-Encoding", "a coded body", "one as it is")]
    if json.is_json(headers):
        return _of_json(schema, body)
    return [] if schema is None else _of_text(schema, kind, body)


def _of_json(schema: Schema | None, body: bytes) -> list[Violation]:
    try:
        value = json.loads(body)
    except json.BadJson as error:
        return [Violation("body", str(error), "JSON")]
    return [] if schema is None else schema.violations("body", value)


def _of_text(schema: Schema, kind: str, body: bytes) -> list[Violation]:
    if kind not in (FORM, "text/plain"):
        return []
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return [Violation("body", "no UTF-8", "text")]
    if kind == "text/plain":
        return schema.violations("body", text) if schema.types == {"string"} else []
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return [Violation("body", f"over {_MOST_FIELDS} fields", "fewer")]
    return schema.violations("body", _form(schema, pairs))


def _form(schema: Schema, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    made: dict[str, Any] = {}
    for name, values in texts.items():
        types = schema.properties.get(name, frozenset())
        if "array" in types:
            made[name] = values
        elif len(values) == 1:
            # A form knows texts only; what may be one stays one.
            made[name] = values[0] if "string" in types else typed(values[0], types)
        else:
            made[name] = values
    return made
