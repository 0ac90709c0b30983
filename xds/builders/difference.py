"""What sets one state apart from the one before."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, count
from operator import is_not
from typing import TypeVar

T = TypeVar("T")


def changed(before: Mapping[str, T], after: Mapping[str, T]) -> frozenset[str]:
    """Return the names that are new, gone or hold another value.

    The same object costs a look; only another one is compared.
    """
    if len(before) == len(after) and list(before) == list(after):
        others = list(map(is_not, before.values(), after.values()))
        return frozenset(name for name in compress(after, others) if before[name] != after[name])
    names = {
        name
        for name, value in after.items()
        if (old := before.get(name)) is not value and old != value
    }
    return frozenset(names | (before.keys() - after.keys()))


def middle(before: Sequence[T], after: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Return both without what they have in common, object by object, at either end."""
    shorter = min(len(before), len(after))
    start = _same(before, after, shorter)
    end = _same(reversed(before), reversed(after), shorter - start)
    return before[start : len(before) - end], after[start : len(after) - end]


def _same(before: Iterable[T], after: Iterable[T], most: int) -> int:
    """Return how many of the first objects are the same, at most ``most``."""
    return min(next(compress(count(), map(is_not, before, after)), most), most)
