"""Finds function URLs by their ids, and who may use them, in the Store."""

import asyncio
from collections.abc import Sequence

from faas.model import policy, url
from faas.model.policy import Policy, Statement
from faas.model.url import FunctionUrl
from faas.records import Records
from wherry.store import Store


class Directory:
    """The URLs of a Store; another process's changes are seen at once.

    Records are kept by function, so what was found once is remembered by its id; for an id that
    is not remembered all are read, by one request at a time.
    """

    def __init__(self, store: Store) -> None:
        self._urls = Records(store, url.PREFIX, FunctionUrl)
        self._policies = Records(store, policy.PREFIX, Policy)
        self._keys: dict[str, str] = {}
        self._reading = asyncio.Lock()

    async def find(self, url_id: str) -> FunctionUrl | None:
        """Return the URL of that id, or None when there is none."""
        found = await self._remembered(url_id)
        if found is not None:
            return found
        async with self._reading:
            records = await self._urls.under()
            self._keys = {record.id: key for key, record in records.items()}
        return await self._remembered(url_id)

    async def statements(self, found: FunctionUrl) -> Sequence[Statement]:
        """Return the statements of the policy about the URL's function and qualifier."""
        kept = await self._policies.get(f"{found.function}/{found.qualifier}")
        return () if kept is None else kept.statements

    async def _remembered(self, url_id: str) -> FunctionUrl | None:
        key = self._keys.get(url_id)
        found = None if key is None else await self._urls.get(key)
        return found if found is not None and found.id == url_id else None
