"""A Store whose process ends at one of its writes."""

from collections.abc import Callable, Sequence
from typing import Any

from wherry.store import Record, Store

WITHOUT_END = 1 << 30
"""So many writes that none is refused."""


class Killed(Exception):
    """Stands for the end of the process."""


def killed() -> None:
    """End the process as far as a test in it can."""
    raise Killed


class Mortal:
    """Passes everything on to another Store, but for writes beyond the first so many.

    Args:
        inner: What the next process finds.
        writes: How many are let through.
        die: Called in place of each further one; does not return.
    """

    def __init__(self, inner: Store, writes: int, die: Callable[[], None] = killed) -> None:
        self.inner, self.left, self._die = inner, writes, die

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def put(self, key: str, body: bytes, *, expect: int | None = None) -> Record:
        self._live()
        return await self.inner.put(key, body, expect=expect)

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        self._live()
        return await self.inner.delete(key, expect=expect)

    async def append(self, log: str, events: Sequence[tuple[str, bytes]]) -> int:
        self._live()
        return await self.inner.append(log, events)

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            self._die()
