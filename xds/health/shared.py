"""What the checkers of all Pilots at one Store say is unhealthy, together.

Each Pilot hears the checkers that are connected to it, and its clients shall know what the others
hear. What it hears stays for a while after it ended: one that starts in its place knows it before
checkers have come back.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from contextlib import aclosing, suppress

from wherry.clock import Clock
from wherry.store import Record, Store
from xds.health.check import Endpoint, Target
from xds.health.server import Health

logger = logging.getLogger(__name__)

PREFIX = "unhealthy/"
LASTING_SECONDS = 15.0
"""How long what a Pilot wrote counts after it wrote it last."""

AGAIN_SECONDS = 5.0
"""How often it writes it while anything is unhealthy."""

MOST = 10_000
"""Most endpoints that one Pilot tells others of, and that are taken of one."""

NAMED = 10
"""Most endpoints that a line of the log names."""

_NS = 10**9

Use = Callable[[frozenset[Target]], None]
"""Takes what is unhealthy, now and after each change."""


class Shared:
    """Joins what one Pilot hears with what the others do.

    An endpoint is unhealthy when the checkers of any Pilot agree on that.

    Args:
        health: What this one hears.
        store: Where all of them write.
        clock: Where the time is read.
        use: Told what they say together.
    """

    def __init__(self, health: Health, store: Store, clock: Clock, use: Use) -> None:
        self._health, self._store, self._clock, self._use = health, store, clock, use
        self._key = PREFIX + secrets.token_hex(8)
        self._mine: frozenset[Target] = frozenset()
        self._theirs: dict[str, tuple[int, frozenset[Target]]] = {}
        self._told: frozenset[Target] | None = None
        self._turned, self._heard = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Tell and hear until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="xds/health/follow")
            group.create_task(self._tell(), name="xds/health/tell")
            group.create_task(self._hear(), name="xds/health/hear")
            group.create_task(self._expire(), name="xds/health/expire")

    async def _follow(self) -> None:
        async with aclosing(self._health.follow()) as changes:
            async for unhealthy in changes:
                self._mine = unhealthy
                self._join()
                self._turned.set()

    async def _tell(self) -> None:
        written = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS if self._mine else None):
                    await self._turned.wait()
            self._turned.clear()
            if self._mine:
                await self._store.put(self._key, self._body())
                written = True
            elif written:
                await self._store.delete(self._key)
                written = False

    def _body(self) -> bytes:
        told = sorted(self._mine)
        if len(told) > MOST:
            text = "unhealthy endpoints: too many to tell other Pilots of all"
            logger.warning(text, extra={"found": len(told), "told": MOST})
        rows = [(cluster, where.address, where.port) for cluster, where in told[:MOST]]
        expires = self._clock.unix_ns() + int(LASTING_SECONDS * _NS)
        return json.dumps({"expires_unix_ns": expires, "endpoints": rows}).encode()

    async def _hear(self) -> None:
        async for view in self._store.watch(PREFIX):
            self._theirs = {key: _read(each) for key, each in view.items() if key != self._key}
            self._join()
            self._heard.set()

    async def _expire(self) -> None:
        """Look again, while others tell of anything, whether they still do."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            while self._theirs:
                await asyncio.sleep(AGAIN_SECONDS)
                now = self._clock.unix_ns()
                ended = [key for key, (expires, _) in self._theirs.items() if expires <= now]
                self._join()
                for key in ended:
                    self._theirs.pop(key, None)
                    await self._store.delete(key)

    def _join(self) -> None:
        now = self._clock.unix_ns()
        others = (bad for expires, bad in self._theirs.values() if expires > now)
        joined = self._mine.union(*others)
        if joined != self._told:
            _log("endpoints are unhealthy", joined - (self._told or frozenset()))
            _log("endpoints are no longer unhealthy", (self._told or frozenset()) - joined)
            self._told = joined
            self._use(joined)


def _log(event: str, targets: frozenset[Target]) -> None:
    if targets:
        named = [f"{cluster} {where}" for cluster, where in sorted(targets)[:NAMED]]
        logger.warning(event, extra={"count": len(targets), "endpoints": named})


def _read(record: Record) -> tuple[int, frozenset[Target]]:
    try:
        said = json.loads(record.body)
        rows = said["endpoints"][:MOST]
        bad = frozenset((str(c), Endpoint(str(address), int(port))) for c, address, port in rows)
        return int(said["expires_unix_ns"]), bad
    except (ValueError, KeyError, TypeError):
        logger.error("record of unhealthy endpoints unreadable", extra={"key": record.key})  # noqa: TRY400
        return 0, frozenset()
