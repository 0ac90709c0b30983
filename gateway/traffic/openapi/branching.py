"""Schemas that lead back to themselves by more than one way.

To say where a value does not fit one, a validator goes every way at each level: for a value of a
few bytes that can take hours. That a value fits is told in no time all the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.traffic.openapi.document import Document, Path

_LISTS = ("anyOf", "oneOf", "allOf")
_ONE = ("if", "then", "else", "not")
_PARTS = (
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_PARTS_BY_NAME = ("properties", "patternProperties")


class Branching:
    """Tells these schemas of one document apart; each is looked at once.

    Args:
        document: Where they are.

    Source: https://doi.org/10.1137/0201010 (Tarjan, strongly connected components)
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: dict[Path, bool] = {}
        self._ways: dict[Path, tuple[list[Path], list[Path]]] = {}

    def of(self, path: Path) -> bool:
        """Return whether the schema at ``path``, or one that it leads to, is one of them."""
        if path not in self._found:
            self._search(path)
        return self._found[path]

    def _search(self, root: Path) -> None:
        order = {root: 0}
        lowest = {root: 0}
        waiting, going = [root], [(root, self._next(root))]
        while going:
            at, ways = going[-1]
            for way in ways:
                if way not in order and way not in self._found:
                    order[way] = lowest[way] = len(order)
                    waiting.append(way)
                    going.append((way, self._next(way)))
                    break
                if way not in self._found:
                    lowest[at] = min(lowest[at], order[way])
            else:
                going.pop()
                if going:
                    lowest[going[-1][0]] = min(lowest[going[-1][0]], lowest[at])
                if lowest[at] == order[at]:
                    self._settle(waiting, at)

    def _settle(self, waiting: list[Path], first: Path) -> None:
        """Decide about the schemas that lead to one another, of which ``first`` was met first."""
        place = waiting.index(first)
        members = set(waiting[place:])
        del waiting[place:]
        found = any(self._leads_back(at, members) > 1 for at in members) or any(
            self._found[way] for at in members for way in self._next(at) if way not in members
        )
        self._found.update(dict.fromkeys(members, found))

    def _leads_back(self, at: Path, members: set[Path]) -> int:
        """Return by how many ways a schema leads to itself; all parts of a value count as one."""
        here, below = self._both(at)
        return len(members.intersection(here)) + bool(members.intersection(below))

    def _next(self, at: Path) -> Iterator[Path]:
        here, below = self._both(at)
        return iter([*here, *below])

    def _both(self, at: Path) -> tuple[list[Path], list[Path]]:
        if at not in self._ways:
            value = _value(self._document, at)
            here = list(_same_place(self._document, at, value))
            self._ways[at] = here, list(_inside(at, value))
        return self._ways[at]


def _value(document: Document, path: Path) -> Mapping[str, Any]:
    value: Any = document.data
    for step in path:
        value = value[step]
    return value if isinstance(value, Mapping) else {}


def _same_place(document: Document, at: Path, value: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the schemas that the same value is held against."""
    if isinstance(value.get("$ref"), str):
        yield document.target(at, value["$ref"])
    for name in _LISTS:
        if isinstance(value.get(name), list):
            yield from ((*at, name, place) for place in range(len(value[name])))
    yield from ((*at, name) for name in _ONE if isinstance(value.get(name), Mapping))
    if isinstance(value.get("dependentSchemas"), Mapping):
        yield from ((*at, "dependentSchemas", name) for name in value["dependentSchemas"])


def _inside(at: Path, value: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the schemas that parts of the value are held against."""
    yield from ((*at, name) for name in _PARTS if isinstance(value.get(name), Mapping))
    for name in _PARTS_BY_NAME:
        if isinstance(value.get(name), Mapping):
            yield from ((*at, name, each) for each in value[name])
    for name in ("prefixItems", "items"):
        if isinstance(value.get(name), list):
            yield from ((*at, name, place) for place in range(len(value[name])))
