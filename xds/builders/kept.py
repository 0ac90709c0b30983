"""Resources in groups, and what sets them apart from the last time that somebody asked."""

from collections import Counter
from collections.abc import Hashable, Iterable, Set
from typing import TypeVar

from xds.resource import CLUSTER, Ref, Resource

T = TypeVar("T")

Key = tuple[Hashable, str]
"""What a group belongs to, and its name there."""


class Kept:
    """Groups of resources by key; several groups may hold the same resource."""

    def __init__(self) -> None:
        self._groups: dict[Key, tuple[Resource, ...]] = {}
        self._held: Counter[Ref] = Counter()
        self._clusters: Counter[str] = Counter()
        self._put: dict[Ref, Resource] = {}
        self._gone: set[Ref] = set()

    @property
    def keys(self) -> Set[Key]:
        """The groups that hold something."""
        return self._groups.keys()

    @property
    def clusters(self) -> Set[str]:
        """Names of the clusters that any of them refers to."""
        return self._clusters.keys()

    def become(self, key: Key, resources: Iterable[Resource]) -> None:
        """Make a group hold these resources and no others."""
        before, now = self._groups.pop(key, ()), tuple(resources)
        if now:
            self._groups[key] = now
        for each in now:
            ref = (each.type_url, each.name)
            self._held[ref] += 1
            self._put[ref] = each
            self._gone.discard(ref)
            self._clusters.update(_clusters(each))
        for each in before:
            ref = (each.type_url, each.name)
            if _one_less(self._held, ref):
                self._put.pop(ref, None)
                self._gone.add(ref)
            for name in _clusters(each):
                _one_less(self._clusters, name)

    def news(self) -> tuple[list[Resource], list[Ref]]:
        """Return what was put since the last time, and what is gone."""
        put, gone = list(self._put.values()), list(self._gone)
        self._put.clear()
        self._gone.clear()
        return put, gone


def _clusters(resource: Resource) -> list[str]:
    return [name for type_url, name in resource.refs if type_url == CLUSTER]


def _one_less(counted: Counter[T], each: T) -> bool:
    """Count one off; return whether none is left."""
    counted[each] -= 1
    if counted[each]:
        return False
    del counted[each]
    return True
