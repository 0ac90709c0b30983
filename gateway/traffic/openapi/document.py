"""An OpenAPI document that was looked through: bounded, and with references that lead somewhere.

References stay inside the document: nothing is fetched.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from wherry.errors import WherryError
from wherry.pointer import pointer_of, steps_of

MAX_DEPTH = 64
"""Most objects and lists inside each other."""

MAX_VALUES = 200_000
"""Most values."""

MAX_CHAIN = 16
"""Most references one after the other."""

BASE_DIALECT = "https://spec.openapis.org/oas/3.1/dialect/base"
PLAIN_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Path = tuple[str | int, ...]

_VERSION = re.compile(r"3\.(0|1)\.[0-9]+(-.+)?")
_NOT_LOCAL = ("$id", "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor")
DATA = frozenset({"example", "examples", "default", "enum", "const"})
"""Members that hold values, and describe nothing."""


class WrongDocument(WherryError):
    """A document cannot be used.

    Attributes:
        path: Where.
        found: What stands there.
        expected: What could stand there.
    """

    def __init__(self, path: Sequence[str | int], found: str, expected: str) -> None:
        super().__init__(f"OpenAPI document {pointer(path)}: {found}, expected {expected}")
        self.path, self.found, self.expected = tuple(path), found, expected


def pointer(path: Sequence[str | int]) -> str:
    """Return the JSON pointer of ``path``, as a fragment like ``#/paths/~1pets``."""
    return "#" + pointer_of(path)


@dataclass(frozen=True, slots=True)
class Document:
    """An OpenAPI document.

    Attributes:
        data: All of it.
        minor: 0 for OpenAPI 3.0, 1 for 3.1.
    """

    data: Mapping[str, Any]
    minor: int

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Document":
        """Look through ``data``.

        Raises:
            WrongDocument: It is of another version, too large, or refers to what is not in it.
        """
        data = _Plain().object(data)
        version = data.get("openapi")
        form = _VERSION.fullmatch(version) if isinstance(version, str) else None
        if form is None:
            found = "no field 'openapi'" if version is None else f"openapi {str(version)[:20]!r}"
            raise WrongDocument(("openapi",), found, "a version like '3.0.3' or '3.1.0'")
        dialect = data.get("jsonSchemaDialect", PLAIN_DIALECT)
        if dialect not in (BASE_DIALECT, PLAIN_DIALECT):
            raise WrongDocument(
                ("jsonSchemaDialect",), f"{str(dialect)[:80]!r}", f"{BASE_DIALECT!r}"
            )
        self = cls(data, int(form[1]))
        for path, value in _described(data):
            self._leads_somewhere(path, value)
        return self

    def at(self, path: Path) -> Mapping[str, Any]:
        """Return the object at ``path``; nothing there is an empty one.

        Raises:
            WrongDocument: Something else is there.
        """
        value: Any = self.data
        for step in path:
            value = value.get(step, {}) if isinstance(value, Mapping) else value[step]
        if not isinstance(value, Mapping):
            raise WrongDocument(path, f"a {kind(value)}", "an object")
        return value

    def items(self, path: Path) -> Sequence[Any]:
        """Return the list at ``path``; nothing there is an empty one.

        Raises:
            WrongDocument: Something else is there.
        """
        value = self.at(path[:-1]).get(str(path[-1]), [])
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise WrongDocument(path, f"a {kind(value)}", "a list")
        return value

    def follow(self, path: Path) -> Path:
        """Return where the object at ``path`` really is: past its references.

        Raises:
            WrongDocument: They go round, or no object is there.
        """
        begin = path
        for _ in range(MAX_CHAIN):
            reference = self.at(path).get("$ref")
            if not isinstance(reference, str):
                return path
            path = self.target(path, reference)
        raise WrongDocument(begin, "references that lead on and on", f"at most {MAX_CHAIN}")

    def target(self, path: Path, reference: str) -> Path:
        """Return the path that ``reference``, which stands at ``path``, names.

        Raises:
            WrongDocument: It leads out of the document, or nowhere.
        """
        if reference != "#" and not reference.startswith("#/"):
            expected = "a reference within the document, like '#/components/schemas/Pet'"
            raise WrongDocument((*path, "$ref"), f"{reference[:80]!r}", expected)
        value: Any = self.data
        steps: list[str | int] = []
        for step in steps_of(unquote(reference)):
            if isinstance(value, Mapping) and step in value:
                value = value[step]
                steps.append(step)
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
                steps.append(int(step))
            else:
                found = f"{reference[:80]!r}, which is not there"
                raise WrongDocument((*path, "$ref"), found, "what the document has")
        return tuple(steps)

    def _leads_somewhere(self, path: Path, value: Mapping[str, Any]) -> None:
        for name in _NOT_LOCAL:
            if isinstance(value.get(name), str):
                raise WrongDocument((*path, name), f"{name!r}", "'$ref' within the document")
        reference = value.get("$ref")
        if isinstance(reference, str):
            self.target(path, reference)


def kind(value: object) -> str:
    """Return what ``value`` is, in a word of JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case Mapping():
            return "object"
        case _:
            return "list"


class _Plain:
    """Makes what YAML may hold into what JSON may: names are texts, and so are dates."""

    def __init__(self) -> None:
        self._count = 0

    def object(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a copy of ``data``.

        Raises:
            WrongDocument: There are too many values, or they are too deep.
        """
        return {str(name): self._value(value, (str(name),)) for name, value in data.items()}

    def _value(self, value: Any, path: Path) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise WrongDocument((), f"over {MAX_VALUES} values", "a smaller document")
        if len(path) > MAX_DEPTH:
            raise WrongDocument(path, f"values over {MAX_DEPTH} deep", "a flatter document")
        if isinstance(value, Mapping):
            return {str(k): self._value(v, (*path, str(k))) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(each, (*path, place)) for place, each in enumerate(value)]
        return value if isinstance(value, str | int | float | bool | None) else str(value)


def _described(data: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every object that is no example of a value, with where it is."""
    waiting: list[tuple[Path, Any]] = [((), data)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            yield path, value
            waiting += (((*path, k), v) for k, v in value.items() if not _is_data(path, k))
        elif isinstance(value, list):
            waiting += (((*path, place), each) for place, each in enumerate(value))


def _is_data(path: Path, key: str) -> bool:
    named = path and path[-1] in ("properties", "components")
    return key in DATA and not named
