"""Values that are kept while they are used, so that no table grows without an end."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key; of more than ``most`` (at least 1) the one unused for longest is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return the value, which counts as used now, or None."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: K, value: V) -> None:
        """Keep ``value``; it counts as used now."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def of(self, key: K, made: Callable[[], V]) -> V:
        """Return the value, which is ``made`` when there is none."""
        found = self.get(key)
        if found is None:
            found = made()
            self.put(key, found)
        return found

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
