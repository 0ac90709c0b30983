"""A store in this process that forgets everything at its end; for tests and trials."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

from wherry.clock import Clock, SystemClock
from wherry.store import Conflict, Event, Lease, LeaseLost, Record, View, bounds
from wherry.store.ends import Ending
from wherry.store.steps import Advance, Advanced, Held, Hold


@dataclass(slots=True)
class _Log:
    """What was appended, in order.

    Attributes:
        events: By id.
        trimmed: Offsets of removed events by the ids that are still known.
        last: Offset of the newest event.
    """

    events: dict[str, Event] = field(default_factory=dict)
    trimmed: dict[str, int] = field(default_factory=dict)
    last: int = 0


class MemoryStore:
    """See `wherry.store.Store`. For one event loop; nothing is durable.

    Args:
        clock: Where leases read the time.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._revision = 0
        self._records: dict[str, Record] = {}
        self._counters: dict[str, int] = {}
        self._levels: Ending[str, int] = Ending()
        self._shares: defaultdict[str, Ending[str, int]] = defaultdict(Ending)
        self._leases: dict[str, Lease] = {}
        self._logs: defaultdict[str, _Log] = defaultdict(_Log)
        self._watchers: dict[asyncio.Event, str] = {}

    async def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        return self._records.get(key)

    async def list(self, prefix: str) -> View:
        """See `Store.list`."""
        return self._view(prefix)

    async def put(self, key: str, body: bytes, *, expect: int | None = None) -> Record:
        """See `Store.put`."""
        bounds.named(key)
        bounds.sized([(key, body)])
        self._compare(key, expect)
        self._revision += 1
        self._records[key] = record = Record(key, self._revision, bytes(body))
        self._notify(key)
        return record

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """See `Store.delete`."""
        self._compare(key, expect)
        if key not in self._records:
            return False
        self._revision += 1
        del self._records[key]
        self._notify(key)
        return True

    async def watch(self, prefix: str) -> AsyncGenerator[View]:
        """See `Store.watch`."""
        changed = asyncio.Event()
        self._watchers[changed] = prefix
        try:
            while True:
                changed.clear()
                yield self._view(prefix)
                await changed.wait()
        finally:
            del self._watchers[changed]

    async def add(self, counter: str, n: int) -> int:
        """See `Store.add`."""
        bounds.named(counter)
        total = bounds.counted(counter, self._counters.get(counter, 0) + n)
        self._counters[counter] = total
        return total

    async def advance(
        self, level: str, n: int, *, floor: int | None, most: int | None, seconds: float
    ) -> Advanced:
        """See `Store.advance`."""
        return (await self.advance_all([Advance(level, n, floor, most, seconds)]))[0]

    async def advance_all(self, steps: Sequence[Advance]) -> Sequence[Advanced]:
        """See `Store.advance_all`."""
        bounds.stepped(steps)
        now = self._clock.unix_ns()
        return [self._step(step, now) for step in steps]

    async def hold(
        self, name: str, holder: str, amount: int, *, most: int | None, seconds: float
    ) -> Held:
        """See `Store.hold`."""
        return (await self.hold_all([Hold(name, holder, amount, most, seconds)]))[0]

    async def hold_all(self, claims: Sequence[Hold]) -> Sequence[Held]:
        """See `Store.hold_all`."""
        bounds.claimed(claims)
        now = self._clock.unix_ns()
        return [self._claim(claim, now) for claim in claims]

    async def lease(self, key: str, holder: str, *, seconds: float) -> Lease:
        """See `Store.lease`."""
        bounds.named(key, holder)
        now, length = self._clock.unix_ns(), bounds.lasting(key, seconds)
        held = self._leases.get(key)
        if held and held.holder != holder and held.expires_ns > now:
            raise LeaseLost(key)
        self._leases[key] = lease = Lease(key, holder, now + length)
        return lease

    async def release(self, lease: Lease) -> None:
        """See `Store.release`."""
        held = self._leases.get(lease.key)
        if held and held.holder == lease.holder:
            del self._leases[lease.key]

    async def append(self, log: str, events: Sequence[tuple[str, bytes]]) -> int:
        """See `Store.append`."""
        bounds.named(log, *(each for each, _ in events))
        bounds.sized(events)
        held = self._logs[log]
        before = held.last
        for each, body in events:
            if each not in held.events and each not in held.trimmed:
                held.last += 1
                held.events[each] = Event(held.last, each, bytes(body))
        return held.last - before

    async def read(self, log: str, after: int = 0, *, limit: int = 1000) -> Sequence[Event]:
        """See `Store.read`."""
        bounds.paged(limit)
        held = self._logs[log].events if log in self._logs else {}
        return [event for event in held.values() if event.offset > after][:limit]

    async def trim(self, log: str, before: int, *, forget: int = 0) -> int:
        """See `Store.trim`."""
        bounds.named(log)
        if log not in self._logs:
            return 0
        held = self._logs[log]
        events = islice(held.events.values(), bounds.MAX_TRIMMED)
        trimmed = [event for event in events if event.offset < before]
        for event in trimmed:
            del held.events[event.id]
            held.trimmed[event.id] = event.offset
        ids = islice(held.trimmed.items(), bounds.MAX_TRIMMED)
        forgotten = [each for each, offset in ids if offset < forget]
        for each in forgotten:
            del held.trimmed[each]
        return len(trimmed) + len(forgotten)

    def _step(self, step: Advance, now: int) -> Advanced:
        held = self._levels.get(step.level, now) or 0
        base = held if step.floor is None else max(held, step.floor)
        value = bounds.counted(step.level, base + step.n)
        if step.most is not None and value > step.most:
            return Advanced(base, passed=False)
        if step.n:
            ends = now + bounds.lasting(step.level, step.seconds)
            self._levels.put(step.level, value, ends, now)
        return Advanced(value, passed=True)

    def _claim(self, claim: Hold, now: int) -> Held:
        shares = self._shares[claim.name]
        live = dict(shares.items(now))
        mine, total = live.get(claim.holder, 0), sum(live.values())
        after = total - mine + claim.amount
        if claim.amount > mine and claim.most is not None and after > claim.most:
            return Held(total, passed=False)
        if claim.amount:
            ends = now + bounds.lasting(claim.name, claim.seconds)
            shares.put(claim.holder, claim.amount, ends, now)
        else:
            shares.pop(claim.holder)
            if not after:
                del self._shares[claim.name]
        return Held(after, passed=True)

    def _view(self, prefix: str) -> View:
        return MappingProxyType({k: r for k, r in self._records.items() if k.startswith(prefix)})

    def _compare(self, key: str, expect: int | None) -> None:
        found = self._records[key].revision if key in self._records else 0
        if expect is not None and expect != found:
            raise Conflict(key, expect, found)

    def _notify(self, key: str) -> None:
        for changed, prefix in self._watchers.items():
            if key.startswith(prefix):
                changed.set()
