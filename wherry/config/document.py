"""YAML text to plain data that remembers its lines; JSON text to data that has one line."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NoReturn

import yaml

from wherry.errors import ConfigError, Problem
from wherry.pointer import pointer_of

MAX_FILE = 1 << 20
"""Most bytes in one file."""

MAX_NODES = 200_000
"""Most values in one file, aliases counted at each use."""

MAX_DEPTH = 64
"""Most mappings and lists inside each other."""

MAX_LISTED = 40
"""Most names that an error lists."""

Path = tuple[str | int, ...]

_MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Attributes:
        file: Path as the user named it.
        line: Its first line.
        text: What it was read from, alone or with others.
        place: Which document of that text it is, from 0.
        before: Lines of the file before that text.
        stored: Whether it is JSON of the Store; then a JSON pointer tells places, not a line.
    """

    file: str
    line: int
    text: str
    place: int
    before: int
    stored: bool = False

    @property
    def data(self) -> object:
        """Mappings, lists and scalars."""
        return _parsed(self.text) if self.stored else _composed(self.text)[self.place].data

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of ``path``, or of the nearest value around it."""
        if self.stored:
            return self.line
        lines = _composed(self.text)[self.place].lines
        known: Path = ()
        for part in path:
            if (*known, part) in lines:
                known = (*known, part)
        return self.before + lines[known]

    def moved(self, file: str, before: int) -> "Document":
        """Return the same document in another place."""
        line = self.line - self.before + before
        return Document(file, line, self.text, self.place, before, self.stored)

    def problem(self, path: Sequence[str | int], found: str, expected: str) -> Problem:
        """Return a `Problem` at ``path``."""
        file = f"{self.file}#{pointer(self.data, path)}" if self.stored else self.file
        return Problem(file, self.line_of(path), found, expected)


def pieces(file: str, text: str) -> list[tuple[str, int]]:
    """Cut a file where documents begin; return each piece and how many lines are before it.

    No text inside a document may begin a line with the marker. A file with directives, which
    belong to the document after them, is one piece.

    Raises:
        ConfigError: The file is too large.

    Source: https://yaml.org/spec/1.2.2/#rule-c-forbidden
    """
    if len(text) > MAX_FILE:
        raise ConfigError([Problem(file, 1, f"{len(text)} bytes", f"at most {MAX_FILE}")])
    if _DIRECTIVE.search(text):
        return [(text, 0)]
    cuts = [0, *(found.start() for found in _MARKER.finditer(text)), len(text)]
    cut, lines = [], 0
    for start, end in pairwise(cuts):
        piece = text[start:end]
        cut.append((piece, lines))
        lines += piece.count("\n")
    return cut


def documents(text: str) -> list[Document]:
    """Read every document of ``text``; an empty one is skipped.

    Raises:
        ConfigError: The text is no YAML, or names a field twice. It names no file.
    """
    return [
        Document("", read.lines[()], text, place, 0)
        for place, read in enumerate(_composed(text))
        if read.data is not None
    ]


def stored(text: str) -> Document:
    """Read one document of JSON.

    Raises:
        ConfigError: The text is no JSON, names a field twice, or nests too deep.
    """
    _parsed(text)
    return Document("", 1, text, 0, 0, stored=True)


def pointer(data: object, path: Sequence[str | int]) -> str:
    """Return the JSON pointer of ``path``, or of the nearest value around it that ``data`` has."""
    there = list[str | int]()
    for part in path:
        try:
            data = data[part]  # type: ignore[index]
        except (LookupError, TypeError):
            break
        there.append(part)
    return pointer_of(there)


@lru_cache(maxsize=4)
def _parsed(text: str) -> object:
    return parsed(text)


def parsed(text: str, *, most: int = MAX_FILE) -> object:
    """Return the values of one JSON text.

    Args:
        text: The text.
        most: Characters that it may have.

    Raises:
        ConfigError: It is too long, no JSON, names a field twice, or nests deeper than
            `MAX_DEPTH`. It names no file.

    Source: RFC 8259
    """
    if len(text) > most:
        raise ConfigError([Problem("", 1, f"{len(text)} characters", f"at most {most}")])
    try:
        data: object = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        problem = Problem("", 1, f"no JSON ({str(error)[:200]})", "well-formed JSON")
        raise ConfigError([problem]) from None
    if _deeper(data, MAX_DEPTH):
        found = f"values nested deeper than {MAX_DEPTH}"
        raise ConfigError([Problem("", 1, found, "a flatter document")])
    return data


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice[:40]!r} a second time")
    return fields


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _deeper(data: object, most: int) -> bool:
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return any(most == 0 or _deeper(each, most - 1) for each in inner)


@dataclass(frozen=True, slots=True)
class _Read:
    """A document's values, and the line of each by its path (of a field, that of its name)."""

    data: object
    lines: Mapping[Path, int]


@lru_cache(maxsize=4)
def _composed(text: str) -> tuple[_Read, ...]:
    try:
        _shallow(text)
        nodes = [n for n in yaml.compose_all(text, Loader=yaml.CSafeLoader) if n is not None]
    except yaml.YAMLError as error:
        raise ConfigError([_syntax(error)]) from None
    return tuple(map(_read, nodes))


def _shallow(text: str) -> None:
    """Refuse text that nests deeper than the composer's own recursion would survive."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            found = f"values nested deeper than {MAX_DEPTH}"
            raise ConfigError([Problem("", line, found, "a flatter file")])


def _syntax(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else 1
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Problem("", line, f"no YAML ({what})", "well-formed YAML")


def _read(node: yaml.Node) -> _Read:
    reader = _Reader()
    return _Read(reader.value(node, ()), reader.lines)


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self._constructor = yaml.constructor.SafeConstructor()
        self._count = 0

    def value(self, node: yaml.Node, path: Path) -> object:
        self._count += 1
        if self._count > MAX_NODES:
            self._refuse(node, f"more than {MAX_NODES} values", "a smaller file")
        if len(path) > MAX_DEPTH:
            self._refuse(node, f"values nested deeper than {MAX_DEPTH}", "a flatter file")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return dict(self._fields(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(n, (*path, i)) for i, n in enumerate(node.value)]
        try:
            scalar: object = self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._refuse(node, f"{node.tag} {node.value!r}", "a plain value")
        return scalar if isinstance(scalar, str | int | float | bool | None) else str(node.value)

    def _fields(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, object]]:
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a field whose name is no text", "a plain name")
            name = str(key.value)
            if name in seen:
                self._refuse(key, f"field {name!r} a second time", "each field once")
            seen.add(name)
            self.lines[*path, name] = key.start_mark.line + 1
            yield name, self.value(value, (*path, name))

    def _refuse(self, node: yaml.Node, found: str, expected: str) -> NoReturn:
        raise ConfigError([Problem("", node.start_mark.line + 1, found, expected)])


def one_of(names: Sequence[str], given: str) -> str:
    """Return what to expect instead of ``given``: the nearest name, or all of them, if few."""
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.75)
    listed = ", ".join(names[:MAX_LISTED]) if names else "none"
    if len(names) > MAX_LISTED:
        listed += f" and {len(names) - MAX_LISTED} more"
    return f"{near[0]!r}" if near else f"one of {listed}"
