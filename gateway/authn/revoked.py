"""Tokens that were given back before their end, as every process of the gateway knows them."""

import asyncio

from wherry.clock import Clock
from wherry.store import Store, View
from wherry.store.follow import follow

FOLDER = "tokenrevoked/"
"""Where the Store keeps them; the record of each holds when the token would have ended."""


class Revoked:
    """Revoked tokens by their ``jti``.

    Args:
        store: Where they are.
        clock: Where the time is read.

    Attributes:
        loaded: Set once they were read for the first time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._ids: frozenset[str] = frozenset()
        self.loaded = asyncio.Event()

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    async def add(self, token: str, ends: int) -> None:
        """Revoke the token until ``ends`` (Unix seconds), and forget those that ended."""
        await self._store.put(FOLDER + token, str(ends).encode())
        self._ids |= {token}
        now = self._clock.unix_ns() // 10**9
        for key, record in (await self._store.list(FOLDER)).items():
            if not record.body.isdigit() or int(record.body) < now:
                await self._store.delete(key)

    async def follow(self) -> None:
        """Keep up with the Store until cancelled; while it fails, those known last count."""
        await follow(self._store, FOLDER, self._take, what="revoked tokens")

    async def _take(self, view: View) -> None:
        self._ids = frozenset(key.removeprefix(FOLDER) for key in view)
        self.loaded.set()
