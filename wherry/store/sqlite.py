"""A store in one SQLite file, shared by the processes of one machine."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self, TypeVar

from wherry.clock import Clock, SystemClock
from wherry.store import Event, Lease, Record, StoreClosed, StoreFailed, View
from wherry.store.database import Database
from wherry.store.steps import Advance, Advanced, Held, Hold

POLL_SECONDS = 0.03
"""How often a watcher looks for writes of other processes."""

T = TypeVar("T")


class SqliteStore:
    """See `wherry.store.Store`; made by `SqliteStore.open`.

    Every returned write has reached the disk. One thread does all blocking work, in the
    order of the calls; a call that is cancelled may still take effect.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wherry-store")
        self._database: Database | None = None
        self._watchers: set[asyncio.Event] = set()
        self._revision, self._looked = 0, 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, clock: Clock | None = None) -> AsyncIterator[Self]:
        """Open the file, made at first use for its owner only; close it at the end.

        Args:
            path: A file in a folder that exists.
            clock: Where leases read the time.

        Raises:
            StartError: The file cannot be opened, is no store, or is of a newer version.
        """
        store = cls(path, clock or SystemClock())
        loop = asyncio.get_running_loop()
        try:
            database = await loop.run_in_executor(store._thread, Database, path)
            store._database = database
            try:
                yield store
            finally:
                store._database = None
                for changed in store._watchers:
                    changed.set()
                await loop.run_in_executor(store._thread, database.close)
        finally:
            store._thread.shutdown(wait=False)

    async def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        return await self._call(lambda db: db.get(key))

    async def list(self, prefix: str) -> View:
        """See `Store.list`."""
        return await self._call(lambda db: db.list(prefix))

    async def put(self, key: str, body: bytes, *, expect: int | None = None) -> Record:
        """See `Store.put`."""
        record = await self._call(lambda db: db.put(key, body, expect))
        self._notify(record.revision)
        return record

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """See `Store.delete`."""
        deleted = await self._call(lambda db: db.delete(key, expect))
        if deleted:
            self._notify(await self._call(Database.revision))
        return deleted

    async def watch(self, prefix: str) -> AsyncGenerator[View]:
        """See `Store.watch`; writes of other processes are seen within about 50 ms."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            seen, view = await self._snapshot(prefix)
            yield view
            while True:
                await self._newer_than(seen, changed)
                before = view
                seen, view = await self._snapshot(prefix)
                if view != before:
                    yield view
        finally:
            self._watchers.discard(changed)

    async def add(self, counter: str, n: int) -> int:
        """See `Store.add`."""
        return await self._call(lambda db: db.add(counter, n))

    async def advance(
        self, level: str, n: int, *, floor: int | None, most: int | None, seconds: float
    ) -> Advanced:
        """See `Store.advance`."""
        return (await self.advance_all([Advance(level, n, floor, most, seconds)]))[0]

    async def advance_all(self, steps: Sequence[Advance]) -> Sequence[Advanced]:
        """See `Store.advance_all`."""
        now_ns = self._clock.unix_ns()
        return await self._call(lambda db: db.advance(steps, now_ns))

    async def hold(
        self, name: str, holder: str, amount: int, *, most: int | None, seconds: float
    ) -> Held:
        """See `Store.hold`."""
        return (await self.hold_all([Hold(name, holder, amount, most, seconds)]))[0]

    async def hold_all(self, claims: Sequence[Hold]) -> Sequence[Held]:
        """See `Store.hold_all`."""
        now_ns = self._clock.unix_ns()
        return await self._call(lambda db: db.hold(claims, now_ns))

    async def lease(self, key: str, holder: str, *, seconds: float) -> Lease:
        """See `Store.lease`."""
        now_ns = self._clock.unix_ns()
        return await self._call(lambda db: db.lease(key, holder, seconds, now_ns))

    async def release(self, lease: Lease) -> None:
        """See `Store.release`."""
        await self._call(lambda db: db.release(lease))

    async def append(self, log: str, events: Sequence[tuple[str, bytes]]) -> int:
        """See `Store.append`."""
        return await self._call(lambda db: db.append(log, events))

    async def read(self, log: str, after: int = 0, *, limit: int = 1000) -> Sequence[Event]:
        """See `Store.read`."""
        return await self._call(lambda db: db.read(log, after, limit))

    async def trim(self, log: str, before: int, *, forget: int = 0) -> int:
        """See `Store.trim`; the file does not shrink, new events take the place."""
        return await self._call(lambda db: db.trim(log, before, forget))

    async def _call(self, work: Callable[[Database], T]) -> T:
        """Do ``work`` in the store's thread: the only way to the database."""
        database = self._database
        if database is None:
            raise StoreClosed(self._path)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, database)
        except sqlite3.Error as error:
            raise StoreFailed(self._path, str(error)) from error

    async def _snapshot(self, prefix: str) -> tuple[int, View]:
        # The revision is read first: a write between the two is listed, and seen once more.
        return await self._call(lambda db: (db.revision(), db.list(prefix)))

    async def _newer_than(self, seen: int, changed: asyncio.Event) -> None:
        """Return as soon as the store's revision is over ``seen``."""
        while True:
            changed.clear()
            if await self._look() > seen:
                return
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await changed.wait()
            except TimeoutError:
                continue

    async def _look(self) -> int:
        """Return the newest revision known; all watchers share one look per half a poll."""
        now = asyncio.get_running_loop().time()
        if now - self._looked > POLL_SECONDS / 2:
            self._looked = now
            self._revision = max(self._revision, await self._call(Database.revision))
        return self._revision

    def _notify(self, revision: int) -> None:
        self._revision = max(self._revision, revision)
        for changed in self._watchers:
            changed.set()
