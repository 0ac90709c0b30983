"""What belongs to a function and goes with it, whoever keeps it."""

from faas.model import concurrency, delivery, policy, recursion, url
from wherry.store import Store

_OF_QUALIFIERS = (concurrency.PROVISIONED, delivery.PREFIX, url.PREFIX, policy.PREFIX)
"""Prefixes of records ``PREFIX FUNCTION/QUALIFIER``."""
_OF_FUNCTIONS = (concurrency.RESERVED, recursion.PREFIX)
"""Prefixes of records ``PREFIX FUNCTION``."""


class Belongings:
    """The records of functions that are neither versions nor aliases.

    Event source mappings are not among them: as in Lambda, they stay until they are deleted.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def clear(self, name: str) -> None:
        """Remove what belongs to a function and to any version or alias of it."""
        for prefix in _OF_QUALIFIERS:
            for key in await self._store.list(f"{prefix}{name}/"):
                await self._store.delete(key)
        for prefix in _OF_FUNCTIONS:
            await self._store.delete(prefix + name)

    async def clear_qualifier(self, name: str, qualifier: str) -> None:
        """Remove what belongs to a version or an alias."""
        for prefix in _OF_QUALIFIERS:
            await self._store.delete(f"{prefix}{name}/{qualifier}")
