"""Who serves at the moment: registrations as Store records that end by themselves."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress

from wherry.clock import Clock
from wherry.store import Conflict, Record, Store, View
from xds.heartbeat import deregister, heartbeat, register
from xds.workload import BadWorkload, Workload, checked_name, checked_ttl, from_record, record_body

__all__ = [
    "BadWorkload",
    "Registry",
    "Workload",
    "deregister",
    "forget",
    "heartbeat",
    "live",
    "register",
]

logger = logging.getLogger(__name__)

PREFIX = "workload/"
SWEEP_SECONDS = 60.0
"""How often, and how long after its end, a registration's record is removed."""

_SHORTEST_WAIT = 0.01
_NS = 10**9


def key_of(service: str, workload_id: str) -> str:
    """Return the key of a registration's record."""
    return f"{PREFIX}{service}/{workload_id}"


class Registry:
    """Writes registrations. Several may write to the same Store.

    Args:
        store: Where the records are.
        clock: Where registrations read the time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._swept = clock.now()

    async def register(self, workload: Workload, ttl_seconds: int) -> int:
        """Keep ``workload`` alive for ``ttl_seconds`` from now.

        Returns:
            Unix nanoseconds when the registration ends.

        Raises:
            BadWorkload: ``ttl_seconds`` is outside of `xds.workload.TTL_SECONDS`.
        """
        expires = self._clock.unix_ns() + checked_ttl(workload, ttl_seconds) * _NS
        key = key_of(workload.service, workload.id)
        await self._store.put(key, record_body(workload, expires))
        if self._clock.now() - self._swept >= SWEEP_SECONDS:
            self._swept = self._clock.now()
            await self.sweep()
        return expires

    async def deregister(self, service: str, workload_id: str) -> bool:
        """End a registration now; return whether there was one.

        Raises:
            BadWorkload: A name has not the form that it needs.
        """
        key = key_of(checked_name("service", service), checked_name("id", workload_id))
        return await self._store.delete(key)

    async def sweep(self) -> int:
        """Remove records that ended `SWEEP_SECONDS` ago; return how many."""
        before = self._clock.unix_ns() - int(SWEEP_SECONDS * _NS)
        removed = 0
        for record in (await self._store.list(PREFIX)).values():
            read = _read(record)
            if read is None or read[1] > before:
                continue
            with suppress(Conflict):
                removed += await self._store.delete(record.key, expect=record.revision)
        return removed


async def forget(store: Store, beginning: str) -> int:
    """Remove the registrations of all services whose ids have this ``beginning``; say how many."""
    keys = [key for key in await store.list(PREFIX) if key.rpartition("/")[2].startswith(beginning)]
    return sum([await store.delete(key) for key in keys])


async def live(
    store: Store, clock: Clock, *, back: int = 0
) -> AsyncGenerator[tuple[Workload, ...]]:
    """Yield the live workloads, sorted by service and id: now, on each change and each expiry.

    A heartbeat that changes nothing yields nothing; a slow reader gets the newest set. Records
    that cannot be read are logged and left out. Close the iterator to stop watching.

    Args:
        store: Where the records are.
        clock: Where registrations read the time.
        back: Unix nanoseconds until which registrations that have ended count, too: a Pilot that
            was away gives members the time to come back.
    """
    loop = asyncio.get_running_loop()
    async with aclosing(_as_generator(store, PREFIX)) as views:
        coming = loop.create_task(_following(views), name="registrations")
        try:
            await asyncio.wait({coming})
            known: dict[Workload, int] = {}
            memory = _Memory()
            told: tuple[Workload, ...] | None = None
            while True:
                if coming.done():
                    known = {
                        workload: max(expires, back)
                        for workload, expires in memory.read(coming.result().values())
                    }
                    coming = loop.create_task(_following(views), name="registrations")
                now = clock.unix_ns()
                alive = {w: expires for w, expires in known.items() if expires > now}
                current = tuple(sorted(alive, key=lambda w: (w.service, w.id)))
                if current != told:
                    told = current
                    yield current
                    continue
                wait = (min(alive.values()) - now) / _NS if alive else None
                await asyncio.wait({coming}, timeout=wait and max(wait, _SHORTEST_WAIT))
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming


async def _as_generator(store: Store, prefix: str) -> AsyncGenerator[View]:
    async for view in store.watch(prefix):
        yield view


async def _following(views: AsyncGenerator[View]) -> View:
    return await anext(views)


_Read = tuple[Workload, int] | None
"""A workload and when its registration ends; None where the record is unreadable."""


class _Memory:
    """What each record of the last reading held; what a reading does not meet again is forgotten.

    A record that was not written since is not read again, and a workload that is registered again
    as it was stays the very same object.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, _Read]] = {}

    def read(self, records: Iterable[Record]) -> list[tuple[Workload, int]]:
        known = {record.key: self._one(record) for record in records}
        self._known = known
        return [read for _, read in known.values() if read is not None]

    def _one(self, record: Record) -> tuple[int, _Read]:
        before = self._known.get(record.key)
        if before is not None and before[0] == record.revision:
            return before
        read = _read(record)
        if read is not None and before is not None and before[1] is not None:
            workload = before[1][0]
            read = (workload if workload == read[0] else read[0], read[1])
        return record.revision, read


def _read(record: Record) -> _Read:
    service, _, workload_id = record.key.removeprefix(PREFIX).partition("/")
    try:
        return from_record(service, workload_id, record.body)
    except BadWorkload as error:
        logger.error(  # noqa: TRY400
            "registration unreadable", extra={"key": record.key, "reason": str(error)}
        )
        return None
