"""YAML text to plain data that remembers its lines."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import yaml

from wherry.errors import ConfigError, Problem

MAX_FILE = 1 << 20
"""Most bytes in one file."""

MAX_NODES = 200_000
"""Most values in one file, aliases counted at each use."""

MAX_DEPTH = 64
"""Most mappings and lists inside each other."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Attributes:
        file: Path as the user named it.
        data: Mappings, lists and scalars.
        lines: Line of each value by its path; of a mapping's field, the line of its name.
    """

    file: str
    data: object
    lines: Mapping[Path, int]

    @property
    def line(self) -> int:
        """The document's first line."""
        return self.lines[()]

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of ``path``, or of the nearest value around it."""
        known: Path = ()
        for part in path:
            if (*known, part) in self.lines:
                known = (*known, part)
        return self.lines[known]

    def problem(self, path: Sequence[str | int], found: str, expected: str) -> Problem:
        """Return a `Problem` at ``path``."""
        return Problem(self.file, self.line_of(path), found, expected)


def documents(file: str, text: str) -> list[Document]:
    """Read every document of ``text``; an empty one is skipped.

    Raises:
        ConfigError: The text is too large, no YAML, or names a field twice.
    """
    if len(text) > MAX_FILE:
        raise ConfigError([Problem(file, 1, f"{len(text)} bytes", f"at most {MAX_FILE}")])
    try:
        _shallow(file, text)
        nodes = [n for n in yaml.compose_all(text, Loader=yaml.CSafeLoader) if n is not None]
    except yaml.YAMLError as error:
        raise ConfigError([_syntax(file, error)]) from None
    return [read for node in nodes if (read := _read(file, node)).data is not None]


def _shallow(file: str, text: str) -> None:
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
            raise ConfigError([Problem(file, line, found, "a flatter file")])


def _syntax(file: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else 1
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Problem(file, line, f"no YAML ({what})", "well-formed YAML")


def _read(file: str, node: yaml.Node) -> Document:
    reader = _Reader(file)
    return Document(file, reader.value(node, ()), reader.lines)


class _Reader:
    def __init__(self, file: str) -> None:
        self.lines: dict[Path, int] = {}
        self._file = file
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
        raise ConfigError([Problem(self._file, node.start_mark.line + 1, found, expected)])


def one_of(names: Sequence[str], given: str) -> str:
    """Return what to expect instead of ``given``: the nearest name, or all of them."""
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.75)
    listed = ", ".join(names) if names else "none"
    return f"{near[0]!r}" if near else f"one of {listed}"
