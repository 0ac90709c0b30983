"""A store in Redis 7 or newer, shared by any number of machines.

Every verb is one script, so it happens whole or not at all. What a returned write survives is
for the server to say: with ``appendonly yes`` and ``appendfsync always`` a power loss, with
``everysec`` all but the last second.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import MappingProxyType
from typing import Any, Self, TypeVar

from redis.exceptions import NoScriptError, RedisError, ResponseError

from wherry.clock import Clock
from wherry.errors import StartError
from wherry.store import (
    Conflict,
    Event,
    Lease,
    LeaseLost,
    Record,
    StoreClosed,
    StoreFailed,
    View,
    bounds,
    scripts,
)
from wherry.store.scripts import Script
from wherry.store.servers import Client, address, connected
from wherry.store.steps import Advance, Advanced, Held, Hold

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often a watcher looks although no message came."""

_OLDEST = (7, 0)
_TAKEN = 1000
_ANSWER_SECONDS = 5.0

T = TypeVar("T")


class RedisStore:
    """See `wherry.store.Store`; made by `RedisStore.open`.

    Leases, levels and shares end by the server's clock. A watch that has begun waits while the
    server cannot be reached, and goes on from what it missed.

    Args:
        client: Connections, each with bounds on time.
        where: The server's address to show, without a password.
        prefix: Of every key.
        clock: Read in place of the server's clock; None in earnest.
    """

    def __init__(self, client: Client, where: str, prefix: str, clock: Clock | None) -> None:
        self._client, self._where, self._clock = client, where, clock
        self._prefix, self._open = prefix, True
        names = ("records", "names", "revision", "changes", "forgotten", "changed")
        self._keys = tuple(f"{prefix}{name}" for name in names)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, prefix: str = "wherry:", clock: Clock | None = None
    ) -> AsyncIterator[Self]:
        """Connect to the server that ``url`` names; close all connections at the end.

        Args:
            url: See `wherry.store.opened`.
            prefix: Of every key; stores with different prefixes know nothing of each other.
            clock: Read in place of the server's clock; None in earnest.

        Raises:
            StartError: The URL is none, or no usable server answers.
        """
        async with connected(url) as client:
            store = cls(client, address(url), prefix, clock)
            try:
                version = (await store._call(lambda: client.info("server")))["redis_version"]
            except StoreFailed as error:
                raise StartError(f"{error}; is the server up?") from None
            if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
                raise StartError(f"store {store._where}: Redis {version}, expected 7.0 or newer")
            try:
                yield store
            finally:
                store._open = False

    async def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        value = await self._call(lambda: self._client.hget(self._keys[0], key.encode()))
        return None if value is None else _record(key, value)

    async def list(self, prefix: str) -> View:
        """See `Store.list`."""
        return MappingProxyType((await self._listed(prefix))[1])

    async def put(self, key: str, body: bytes, *, expect: int | None = None) -> Record:
        """See `Store.put`."""
        bounds.named(key)
        bounds.sized([(key, body)])
        done, revision = await self._run(
            scripts.PUT, self._keys, key.encode(), _optional(expect), bytes(body)
        )
        if not done:
            raise Conflict(key, expect or 0, int(revision))
        return Record(key, int(revision), bytes(body))

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """See `Store.delete`."""
        done, found = await self._run(scripts.DELETE, self._keys, key.encode(), _optional(expect))
        if not done:
            raise Conflict(key, expect or 0, int(found))
        return bool(found)

    async def watch(self, prefix: str) -> AsyncGenerator[View]:
        """See `Store.watch`; a write is seen as its message comes, else within `POLL_SECONDS`."""
        async with aclosing(self._client.pubsub()) as messages:
            await self._call(lambda: messages.subscribe(self._keys[5]))
            seen, view = await self._listed(prefix)
            yield MappingProxyType(view)
            failing = False
            while True:
                try:
                    await self._a_message(messages)
                    seen, newer = await self._newer(prefix, seen, view)
                except StoreFailed as error:
                    if not failing:
                        logger.warning("watch waits for the store", extra={"cause": error.cause})
                    failing = True
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                failing = False
                if newer != view:
                    view = newer
                    yield MappingProxyType(view)

    async def add(self, counter: str, n: int) -> int:
        """See `Store.add`."""
        bounds.named(counter)
        bounds.counted(counter, n)
        try:
            return int(
                await self._call(lambda: self._client.incrby(self._key("counter", counter), n))
            )
        except ResponseError:
            raise ValueError(
                f"counter {counter!r}: {n} more, expected a sum that is a signed 64-bit number"
            ) from None

    async def advance(
        self, level: str, n: int, *, floor: int | None, most: int | None, seconds: float
    ) -> Advanced:
        """See `Store.advance`."""
        return (await self.advance_all([Advance(level, n, floor, most, seconds)]))[0]

    async def advance_all(self, steps: Sequence[Advance]) -> Sequence[Advanced]:
        """See `Store.advance_all`."""
        bounds.stepped(steps)
        arguments: list[str | int] = [self._now()]
        for step in steps:
            length = _micros(bounds.lasting(step.level, step.seconds))
            arguments += (step.n, _optional(step.floor), _optional(step.most), length)
        keys = [self._key("level", step.level) for step in steps]
        found = await self._run(scripts.ADVANCE, keys, *arguments)
        if -1 in found[1::2]:
            step = steps[len(found) // 2 - 1]
            bounds.counted(step.level, int(found[-2]) + step.n)
        return [
            Advanced(int(value), passed == 1)
            for value, passed in zip(found[::2], found[1::2], strict=True)
        ]

    async def hold(
        self, name: str, holder: str, amount: int, *, most: int | None, seconds: float
    ) -> Held:
        """See `Store.hold`."""
        return (await self.hold_all([Hold(name, holder, amount, most, seconds)]))[0]

    async def hold_all(self, claims: Sequence[Hold]) -> Sequence[Held]:
        """See `Store.hold_all`."""
        bounds.claimed(claims)
        arguments: list[str | int] = [self._now()]
        for claim in claims:
            length = _micros(bounds.lasting(claim.name, claim.seconds))
            arguments += (claim.holder, claim.amount, _optional(claim.most), length)
        keys = [self._key("shares", claim.name) for claim in claims]
        found = await self._run(scripts.HOLD, keys, *arguments)
        return [
            Held(int(total), passed == 1)
            for total, passed in zip(found[::2], found[1::2], strict=True)
        ]

    async def lease(self, key: str, holder: str, *, seconds: float) -> Lease:
        """See `Store.lease`."""
        bounds.named(key, holder)
        length = _micros(bounds.lasting(key, seconds))
        found = await self._run(
            scripts.LEASE, [self._key("lease", key)], holder, length, self._now()
        )
        if not found[0]:
            raise LeaseLost(key)
        return Lease(key, holder, int(found[1]) * 1000)

    async def release(self, lease: Lease) -> None:
        """See `Store.release`."""
        await self._run(scripts.RELEASE, [self._key("lease", lease.key)], lease.holder)

    async def append(self, log: str, events: Sequence[tuple[str, bytes]]) -> int:
        """See `Store.append`."""
        bounds.named(log, *(each for each, _ in events))
        bounds.sized(events)
        if not events:
            return 0
        arguments = [part for each, body in events for part in (each.encode(), bytes(body))]
        return int(await self._run(scripts.APPEND, self._of(log), *arguments))

    async def read(self, log: str, after: int = 0, *, limit: int = 1000) -> Sequence[Event]:
        """See `Store.read`."""
        start = f"({max(after, 0)}-0"
        found = await self._call(
            lambda: self._client.xrange(self._key("log", log), start, "+", bounds.paged(limit))
        )
        return [
            Event(int(offset.partition(b"-")[0]), event[b"id"].decode(), event[b"body"])
            for offset, event in found
        ]

    async def trim(self, log: str, before: int, *, forget: int = 0) -> int:
        """See `Store.trim`."""
        bounds.named(log)
        found = await self._run(scripts.TRIM, self._of(log), before, forget, bounds.MAX_TRIMMED)
        return int(found)

    def _of(self, log: str) -> Sequence[str]:
        return [self._key(kind, log) for kind in ("log", "ids", "trimmed", "last")]

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"

    def _now(self) -> str:
        return "" if self._clock is None else str(self._clock.unix_ns() // 1000)

    async def _run(self, script: Script, keys: Sequence[str], *arguments: str | int | bytes) -> Any:
        """Run a script; a server that does not know it yet is told its text."""
        call = (len(keys), *keys, *arguments)
        try:
            return await self._call(
                lambda: self._client.execute_command("EVALSHA", script.digest, *call)
            )
        except NoScriptError:
            return await self._call(
                lambda: self._client.execute_command("EVAL", script.text, *call)
            )

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for the server: the only way to it.

        Raises:
            StoreFailed: It did not answer, or not as it should.
        """
        if not self._open:
            raise StoreClosed(self._where)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await work()
        except NoScriptError:
            raise
        except ResponseError as error:
            if "overflow" in str(error):
                raise
            raise StoreFailed(self._where, str(error)) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreFailed(self._where, str(error) or type(error).__name__) from error

    async def _listed(self, prefix: str) -> tuple[int, dict[str, Record]]:
        revision, *found = await self._run(scripts.LIST, self._keys[:3], prefix.encode())
        names = [key.decode() for key in found[::2]]
        return int(revision), {
            key: _record(key, value) for key, value in zip(names, found[1::2], strict=True)
        }

    async def _newer(
        self, prefix: str, seen: int, view: dict[str, Record]
    ) -> tuple[int, dict[str, Record]]:
        """Return the view after what was written since revision ``seen``."""
        keys = (self._keys[0], *self._keys[2:5])
        found = await self._run(scripts.CHANGED, keys, seen, prefix.encode())
        revision, known, *changes = found
        if not known:
            return await self._listed(prefix)
        if not changes:
            return int(revision), view
        newer = dict(view)
        for name, value in zip(changes[::2], changes[1::2], strict=True):
            key = name.decode()
            if value is None:
                newer.pop(key, None)
            else:
                newer[key] = _record(key, value)
        return int(revision), newer

    async def _a_message(self, messages: Any) -> None:
        """Wait for a message and take those behind it too, or return after `POLL_SECONDS`."""
        if await self._call(lambda: messages.get_message(timeout=POLL_SECONDS)) is None:
            return
        for _ in range(_TAKEN):
            if await self._call(lambda: messages.get_message(timeout=0)) is None:
                return


def _record(key: str, value: bytes) -> Record:
    revision, _, body = value.partition(b":")
    return Record(key, int(revision), body)


def _optional(number: int | None) -> str | int:
    return "" if number is None else number


def _micros(length_ns: int) -> int:
    return max(1, length_ns // 1000)
