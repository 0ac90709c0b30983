"""Values of one kind in the Store, typed: dataclasses in, dataclasses out."""

from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from wherry.store import Conflict, Store

T = TypeVar("T")


class Records(Generic[T]):
    """The records of one kind, each under ``prefix`` and a key of its own.

    Args:
        store: Where they are kept.
        prefix: Ends in a slash.
        kind: A dataclass; fields with defaults may be missing in a record.
    """

    def __init__(self, store: Store, prefix: str, kind: type[T]) -> None:
        self._store = store
        self._prefix = prefix
        self._kind: TypeAdapter[T] = TypeAdapter(kind)

    async def get(self, key: str) -> T | None:
        """Return the value, or None when there is none."""
        found = await self.at(key)
        return None if found is None else found[0]

    async def at(self, key: str) -> tuple[T, int] | None:
        """Return the value and the revision of its record, or None when there is none."""
        record = await self._store.get(self._prefix + key)
        return None if record is None else (self._read(record.body), record.revision)

    async def under(self, path: str = "") -> dict[str, T]:
        """Return every value whose key starts with ``path``, by key, in order of keys."""
        view = await self._store.list(self._prefix + path)
        return {key.removeprefix(self._prefix): self._read(view[key].body) for key in sorted(view)}

    async def put(self, key: str, value: T, *, expect: int | None = None) -> None:
        """Write a value; with ``expect``, only over the record of that revision (0: absent).

        Raises:
            Conflict: The record is at another revision.
        """
        body = self._kind.dump_json(value)
        await self._store.put(self._prefix + key, body, expect=expect)

    async def change(self, key: str, change: Callable[[T | None], T]) -> T:
        """Replace the value by what ``change`` makes of it, again if another was quicker.

        ``change`` gets None when there is no value; what it raises comes through.
        """
        while True:
            found = await self.at(key)
            value, revision = found or (None, 0)
            changed = change(value)
            try:
                await self.put(key, changed, expect=revision)
            except Conflict:
                continue
            return changed

    async def delete(self, key: str) -> bool:
        """Remove the value; return whether there was one."""
        return await self._store.delete(self._prefix + key)

    def _read(self, body: bytes) -> T:
        return self._kind.validate_json(body)
