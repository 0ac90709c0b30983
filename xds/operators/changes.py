"""What changed between two messages, field by field, as people read it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TypeGuard

from xds.rest.known import Json

_KEYS = ("name", "cluster_name", "prefix", "key", "@type")
"""Fields that tell the items of a list apart; the first that all of them have is taken."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that is not the same.

    Attributes:
        path: Where, as in ``virtual_hosts[shop].routes[2].match.prefix``.
        before: What it was; None when it was not there.
        after: What it is; None when it is no longer there.
    """

    path: str
    before: Json
    after: Json


def changes(before: Json, after: Json, path: str = "") -> Iterator[FieldChange]:
    """Yield the smallest parts in which two messages differ.

    Items of a list are matched by their names where each has one of its own; else what both
    lists have in the same order stays, and what stands between is new or gone.
    """
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            inner = f"{path}.{name}" if path else name
            yield from changes(before.get(name), after.get(name), inner)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _items(before, after, path)
    else:
        yield FieldChange(path, before, after)


def _items(before: list[Json], after: list[Json], path: str) -> Iterator[FieldChange]:
    key = next((key for key in _KEYS if _tells(before, key) and _tells(after, key)), None)
    if key is None:
        yield from _aligned(before, after, path)
        return
    olds, news = _by(before, key), _by(after, key)
    for name in {**olds, **news}:
        yield from changes(olds.get(name), news.get(name), f"{path}[{name}]")
    if [n for n in olds if n in news] != [n for n in news if n in olds]:
        yield FieldChange(f"{path} (order)", list(olds), list(news))


def _aligned(before: list[Json], after: list[Json], path: str) -> Iterator[FieldChange]:
    olds, news = ([json.dumps(each, sort_keys=True) for each in side] for side in (before, after))
    matcher = SequenceMatcher(None, olds, news, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            continue
        pairs = zip_longest(range(old_from, old_to), range(new_from, new_to))
        for old, new in pairs:
            at = f"{path}[{old if new is None else new}]"
            if old is None:
                yield FieldChange(at, None, after[new])
            elif new is None:
                yield FieldChange(at, before[old], None)
            else:
                yield from changes(before[old], after[new], at)


def _tells(items: list[Json], key: str) -> bool:
    values = [item[key] for item in items if _has(item, key)]
    return len(values) == len(items) and len(set(map(str, values))) == len(items)


def _has(item: Json, key: str) -> TypeGuard[dict[str, Json]]:
    return isinstance(item, dict) and isinstance(item.get(key), str)


def _by(items: list[Json], key: str) -> dict[str, Json]:
    return {str(item[key]): item for item in items if _has(item, key)}
