"""Asynchronous invocations: durable before they are accepted, tried again, ended exactly once."""

import asyncio
import logging
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from faas.events import lineage, shapes
from faas.events.core import RETRIES, Result, after_try, before_try
from faas.events.event import MAX_EVENT, SCHEDULE, Event, Phase, Progress, Rules
from faas.events.kept import Kept
from faas.events.targets import Kind, Target, target
from faas.events.tries import Host, Tries
from faas.lambda_errors import (
    RequestTooLarge,
    ResourceNotFound,
    ServiceFailure,
    TooManyRequests,
)
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Store

__all__ = ["Events", "Host", "Limits"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0
"""Seconds between tries of a step that the Store, or a full queue, does not let through."""


class _Stopping(Exception):
    """The service stops; what is left is done at the next start."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of events there may be.

    Attributes:
        events: Most that are not over, those that wait for another try included.
        total_bytes: Most bytes in their payloads together.
        at_once: Most of one function's that run at once.
        retries: Seconds before the second, the third ... try.
    """

    events: int = 1000
    total_bytes: int = 256 << 20
    at_once: int = 10
    retries: tuple[float, ...] = RETRIES


class Events:
    """The events of one Store, run by one process; full, it throttles.

    Each function's events begin in the order in which they are due, `Limits.at_once` together.
    Every step is in the Store before the next is taken: a process that is killed anywhere leaves
    what the next one needs to go on, and records reach their destination once.

    Args:
        store: Where events are kept.
        host: Runs functions and takes messages.
        clock: Wall-clock time decides when a try is due and when an event is too old.
        limits: How much there may be.
        tasks: Owner of the events' tasks.
    """

    def __init__(
        self, store: Store, host: Host, *, clock: Clock, limits: Limits, tasks: asyncio.TaskGroup
    ) -> None:
        self._kept = Kept(store)
        self._tries = Tries(store, host)
        self._outbox = host.outbox
        self._clock = clock
        self._limits = limits
        self._tasks = tasks
        self._known: dict[str, Progress] = {}
        self._held: set[str] = set()
        self._bytes = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ready: defaultdict[str, deque[str]] = defaultdict(deque)
        self._running: defaultdict[str, int] = defaultdict(int)
        self._stopping = asyncio.Event()

    @property
    def pending(self) -> int:
        """How many events are not over."""
        return len(self._known)

    async def resume(self) -> None:
        """Go on with what an earlier process left."""
        for progress in await self._kept.left():
            if progress.id not in self._known:
                self._know(progress)
                if progress.phase is not Phase.DONE:
                    self._schedule(progress)

    async def accept(self, event: Event, *, hold: bool = False) -> None:
        """Return when the event is durable; then run it in the background.

        Args:
            event: What to run.
            hold: Whether it is remembered when it is over, until `settle`, so that it cannot be
                accepted again. That outlives the process when its parent is `SCHEDULE`.

        Raises:
            RequestTooLarge: The payload is over `MAX_EVENT`.
            ResourceNotFound: There is no such function.
            TooManyRequests: `Limits` leave no room.
            ServiceFailure: The service is stopping.
        """
        if len(event.payload) > MAX_EVENT:
            raise RequestTooLarge(MAX_EVENT, "InvokeAsync")
        full = len(self._known) >= self._limits.events
        if full or self._bytes + len(event.payload) > self._limits.total_bytes:
            raise TooManyRequests(retry_after=5, reason="CallerRateLimitExceeded")
        if hold:
            self._held.add(event.id)
        try:
            await self._admit(event)
        except BaseException:
            self._held.discard(event.id)
            raise

    async def settle(self, event: str) -> None:
        """Note that an event that was held is not accepted again."""
        self._held.discard(event)
        known = self._known.get(event)
        if known is not None and known.phase is Phase.DONE:
            await self._kept.remove(event)
            self._forget(event)

    async def settle_left(self) -> None:
        """Settle the schedules' events that an earlier process held."""
        for progress in list(self._known.values()):
            if progress.parent == SCHEDULE and progress.id not in self._held:
                await self.settle(progress.id)

    def stop(self) -> None:
        """Begin nothing more; what runs may end, the rest is left for the next start."""
        self._stopping.set()
        for timer in self._timers.values():
            timer.cancel()
        self._ready.clear()

    async def _admit(self, event: Event) -> None:
        if self._stopping.is_set():
            raise ServiceFailure("The service is stopping; try again")
        if event.id in self._known:
            return
        trace_id, runs = lineage.counted(event.trace_id, event.function, event=event.id)
        event = replace(event, trace_id=trace_id)
        progress = Progress.of(event, Rules(), now=self._now())
        self._know(progress)
        try:
            rules = await self._tries.rules(event.function, event.qualifier)
            looped = runs > lineage.LIMIT and not await self._tries.may_loop(event.function)
            progress = replace(progress, rules=rules, looped=looped)
            if not await self._kept.add(progress, event):
                self._forget(event.id)
                return
        except BaseException:
            self._forget(event.id)
            raise
        self._known[event.id] = progress
        self._schedule(progress)

    def _know(self, progress: Progress) -> None:
        self._known[progress.id] = progress
        self._bytes += progress.size

    def _forget(self, event: str) -> None:
        progress = self._known.pop(event, None)
        if progress is not None:
            self._bytes -= progress.size

    def _schedule(self, progress: Progress) -> None:
        """Take the event's next step when it is due."""
        if self._stopping.is_set():
            return
        wait = progress.due - self._now() if progress.phase is Phase.WAITING else 0.0
        loop = asyncio.get_running_loop()
        self._timers[progress.id] = loop.call_later(max(0.0, wait), self._push, progress)

    def _push(self, progress: Progress) -> None:
        self._timers.pop(progress.id, None)
        self._ready[progress.function].append(progress.id)
        self._fill(progress.function)

    def _fill(self, function: str) -> None:
        """Begin as many steps of a function's events as may run."""
        while self._ready.get(function) and self._running[function] < self._limits.at_once:
            event = self._ready[function].popleft()
            self._running[function] += 1
            self._tasks.create_task(self._step(self._known[event]), name=f"event {function}")
        if not self._ready.get(function):
            self._ready.pop(function, None)
        if not self._running[function]:
            del self._running[function]

    async def _step(self, progress: Progress) -> None:
        try:
            with suppress(_Stopping):
                if progress.phase is Phase.WAITING:
                    progress = await self._tried(progress)
                    self._known[progress.id] = progress
                if progress.phase is Phase.DELIVERING:
                    await self._finish(progress)
                else:
                    self._schedule(progress)
        except BaseException:
            self.stop()
            raise
        finally:
            self._running[progress.function] -= 1
            self._fill(progress.function)

    async def _tried(self, progress: Progress) -> Progress:
        """Run the function once, unless the event is too old, and write what came of it."""
        payload = await self._insist(lambda: self._kept.payload(progress.id)) or b""
        try:
            rules = await self._insist(
                lambda: self._tries.rules(progress.function, progress.qualifier)
            )
        except ResourceNotFound:
            rules = progress.rules
        now = before_try(replace(progress, rules=rules), now=self._now())
        response = None
        if now.condition is None:
            happened, response = await self._tries.once(now, payload)
            if self._stopping.is_set() and happened.result in {Result.THROTTLED, Result.BROKEN}:
                raise _Stopping
            now = after_try(now, happened, now=self._now(), retries=self._limits.retries)
        if now.condition is None:
            await self._insist(lambda: self._kept.change(now))
        elif now.destination or now.dead_letter:
            record = shapes.record(now, payload, response, now=self._now())
            await self._insist(lambda: self._kept.end(now, record))
        return now

    async def _finish(self, progress: Progress) -> None:
        """Deliver the records of an ended event, then forget it."""
        delivered: list[tuple[Target, str]] = []
        if progress.destination or progress.dead_letter:
            record = await self._insist(lambda: self._kept.record(progress.id))
            payload = await self._insist(lambda: self._kept.payload(progress.id)) or b""
            letter = shapes.letter_attributes(progress)
            ends: list[tuple[str, str, bytes, Mapping[str, tuple[str, str]]]] = [
                ("record", progress.destination, record, {}),
                ("letter", progress.dead_letter, payload, letter),
            ]
            for what, arn, body, attributes in ends:
                found = target(arn)
                if found is not None:
                    once = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{progress.id}:{what}:{arn}"))
                    delivered.append((found, once))
                    await self._deliver(progress, found, body, attributes, once)
        if progress.parent in self._known or progress.id in self._held:
            done = replace(progress, phase=Phase.DONE)
            await self._insist(lambda: self._kept.rest(done))
            self._known[progress.id] = done
        if progress.parent not in self._known and progress.id not in self._held:
            await self._over(progress.id)
        for found, once in delivered:
            await self._settle(found, once)

    async def _deliver(
        self,
        progress: Progress,
        to: Target,
        body: bytes,
        attributes: Mapping[str, tuple[str, str]],
        once: str,
    ) -> None:
        ended = {"function": progress.function, "target": to.arn}
        if to.kind is Kind.QUEUE:
            text = body.decode(errors="replace")
            found = await self._insist(
                lambda: self._outbox.post(to.reference.name, text, attributes, once=once)
            )
            if not found:
                logger.error("event record dropped: no such queue", extra=ended)
            return
        if progress.looped:
            logger.error("event record dropped: functions call each other", extra=ended)
            return
        child = Event(
            id=once,
            function=to.reference.name,
            qualifier=to.reference.qualifier,
            arn=to.arn,
            payload=body,
            trace_id=progress.trace_id,
            parent=progress.id,
        )
        try:
            await self._insist(lambda: self._admit(child))
        except ResourceNotFound:
            logger.exception("event record dropped: no such function", extra=ended)

    async def _settle(self, to: Target, once: str) -> None:
        """Let go of what kept a record from being delivered twice."""
        if to.kind is Kind.QUEUE:
            await self._insist(lambda: self._outbox.settle(to.reference.name, once))
            return
        child = self._known.get(once)
        if child is not None and child.phase is Phase.DONE:
            await self._over(once)

    async def _over(self, event: str) -> None:
        await self._insist(lambda: self._kept.remove(event))
        self._forget(event)

    async def _insist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Return what ``act`` returns, as soon as the Store and the rest let it.

        Raises:
            ResourceNotFound: ``act`` did.
            _Stopping: The service stops, and ``act`` failed.
        """
        wait = _FIRST_RETRY
        while True:
            try:
                return await act()
            except ResourceNotFound:
                raise
            except WherryError:
                if self._stopping.is_set():
                    raise _Stopping from None
                logger.exception("event step failed; tried again")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            wait = min(wait * 2, _LAST_RETRY)

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9
