"""Values that end by themselves, kept in a dictionary that does not grow with the ended."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_FEW = 64


class Ending(Generic[K, V]):
    """Values with the instant each ends at; ended ones are swept out as the rest grows."""

    def __init__(self) -> None:
        self._held: dict[K, tuple[V, int]] = {}
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: K, now: int) -> V | None:
        """Return the value, or None when there is none or it ended by ``now``."""
        held = self._held.get(key)
        return held[0] if held and held[1] > now else None

    def put(self, key: K, value: V, ends: int, now: int) -> None:
        """Set a value until ``ends``, on the scale of ``now``."""
        self._held[key] = (value, ends)
        if len(self._held) > self._sweep_at:
            self._held = {key: held for key, held in self._held.items() if held[1] > now}
            self._sweep_at = max(_FEW, 2 * len(self._held))

    def pop(self, key: K) -> None:
        """Forget a value, if there is one."""
        self._held.pop(key, None)

    def items(self, now: int) -> Iterator[tuple[K, V]]:
        """Yield what has not ended by ``now``."""
        return ((key, value) for key, (value, ends) in self._held.items() if ends > now)
