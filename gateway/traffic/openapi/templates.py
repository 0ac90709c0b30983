"""Path templates of a document: variables may be parts of segments, like ``{id}.json``."""

import re
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote

from gateway.traffic.openapi.document import Path, WrongDocument

VARIABLE = re.compile(r"\{([^{}]+)\}")
"""One variable of a template."""

T = TypeVar("T")
Found = tuple[dict[str, T], tuple[str, ...]]
"""What is kept for a template, by method, and what its variables are."""


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: "dict[str, _Node[T]]" = field(default_factory=dict)
    patterns: "dict[tuple[str, ...], _Node[T]]" = field(default_factory=dict)
    kept: dict[str, T] = field(default_factory=dict)


class Templates(Generic[T]):
    """Values by path template and method; the names of variables make no difference."""

    def __init__(self) -> None:
        self._root = _Node[T]()

    def at(self, template: str, path: Path) -> dict[str, T]:
        """Return the values of ``template`` by method, to be changed in place.

        Args:
            template: Begins with a slash.
            path: Where it stands in the document.

        Raises:
            WrongDocument: A segment cannot be read.
        """
        node = self._root
        for segment in template[1:].split("/"):
            parts = tuple(unquote(part) for part in VARIABLE.split(segment)[::2])
            if any("{" in part or "}" in part for part in parts) or "" in parts[1:-1]:
                raise WrongDocument(path[:2], f"segment {segment[:80]!r}", "variables like '{id}'")
            if len(parts) == 1:
                node = node.literals.setdefault(parts[0], _Node())
            else:
                node = node.patterns.setdefault(parts, _Node())
        return node.kept

    def fitting(self, segments: tuple[str, ...]) -> list[Found[T]]:
        """Return what is kept for the templates that a path fits, the most literal first."""
        level: list[tuple[_Node[T], tuple[str, ...]]] = [(self._root, ())]
        for segment in segments:
            level = [
                (child, (*values, *more))
                for node, values in level
                for child, more in _children(node, segment)
            ]
        return [(node.kept, values) for node, values in level if node.kept]


def _children(node: _Node[T], segment: str) -> list[tuple[_Node[T], tuple[str, ...]]]:
    literal = node.literals.get(segment)
    found: list[tuple[_Node[T], tuple[str, ...]]] = [] if literal is None else [(literal, ())]
    ranked = sorted(node.patterns.items(), key=lambda each: -sum(map(len, each[0])))
    between = ((child, _between(parts, segment)) for parts, child in ranked)
    return found + [(child, values) for child, values in between if values is not None]


def _between(parts: tuple[str, ...], segment: str) -> tuple[str, ...] | None:
    """Return what stands between ``parts`` in ``segment``, at least a character each, or None."""
    first, *middle, last = parts
    end = len(segment) - len(last)
    if not segment.startswith(first) or not segment.endswith(last):
        return None
    values, at = list[str](), len(first)
    for part in middle:
        place = segment.find(part, at + 1, end)
        if place < 0:
            return None
        values.append(segment[at:place])
        at = place + len(part)
    return (*values, segment[at:end]) if at < end else None
