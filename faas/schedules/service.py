"""Functions that run by the clock: each due time is one event, exactly once for all of a Store."""

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from faas.events.event import SCHEDULE, Event
from faas.events.shapes import timestamp
from faas.lambda_errors import ResourceNotFound
from faas.model.function import LATEST
from faas.place import Place
from faas.records import Records
from faas.schedules.expression import parsed
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Conflict, LeaseLost, Store

logger = logging.getLogger(__name__)

PREFIX = "schedule/"
"""Records ``schedule/FUNCTION/EXPRESSION``, the expression by its digest."""
MAX_EXPRESSIONS = 50
_LEASE_SECONDS = 30.0
_POLL_SECONDS = 30.0
"""How long the wall clock is trusted to go on as it went."""
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One expression of one function.

    Attributes:
        declared: Unix seconds; rates count from there.
        last: Unix seconds up to which everything due was done.
    """

    function: str
    expression: str
    declared: float
    last: float


class Accepting(Protocol):
    """What takes the events; `faas.events.service.Events` does."""

    def accept(self, event: Event, *, hold: bool = False) -> Awaitable[None]:
        """See `Events.accept`."""
        ...

    def settle(self, event: str) -> Awaitable[None]:
        """See `Events.settle`."""
        ...

    def settle_left(self) -> Awaitable[None]:
        """See `Events.settle_left`."""
        ...


class Schedules:
    """Runs functions when they are due; what was missed while nothing ran is done once, at start.

    Several processes may share a Store: a lease decides which of them does what is due.

    Args:
        store: Where schedules are kept.
        events: Takes an event for each due time; they have resumed before `start`.
        place: For ARNs.
        clock: Wall-clock time decides what is due.
        tasks: Owner of the one task.
    """

    def __init__(
        self,
        store: Store,
        events: Accepting,
        place: Place,
        *,
        clock: Clock,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._records = Records(store, PREFIX, Scheduled)
        self._events = events
        self._place = place
        self._clock = clock
        self._tasks = tasks
        self._holder = str(uuid.uuid4())
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def declare(self, function: str, expressions: Sequence[str]) -> None:
        """Let ``function`` run by these expressions and no others; by none, never.

        An expression that it had before goes on as it was.

        Raises:
            BadSchedule: One of them is no expression.
            ValueError: There are over `MAX_EXPRESSIONS`.
        """
        if len(expressions) > MAX_EXPRESSIONS:
            raise ValueError(
                f"function {function}: {len(expressions)} schedules, expected at most "
                f"{MAX_EXPRESSIONS}"
            )
        for expression in expressions:
            parsed(expression)
        wanted = {_key(function, expression): expression for expression in expressions}
        found = await self._records.under(f"{function}/")
        for key in found.keys() - wanted.keys():
            await self._records.delete(key)
        now = self._now()
        for key in wanted.keys() - found.keys():
            with suppress(Conflict):
                await self._records.put(key, Scheduled(function, wanted[key], now, now), expect=0)
        self._changed.set()

    async def keep(self, functions: Sequence[str]) -> None:
        """Forget the schedules of all other functions."""
        for key, scheduled in (await self._records.under()).items():
            if scheduled.function not in functions:
                await self._records.delete(key)

    async def start(self) -> None:
        """Do what was missed, then what becomes due, until `stop`."""
        await self._round()
        await self._events.settle_left()
        self._task = self._tasks.create_task(self._run(), name="schedules")

    def stop(self) -> None:
        """Begin nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                wait = await self._round()
            except WherryError:
                logger.exception("schedules not looked at; tried again")
                wait = _RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _POLL_SECONDS)):
                    await self._changed.wait()

    async def _round(self) -> float:
        """Do all that is due; return the seconds until something is next."""
        wait = _POLL_SECONDS
        for key, scheduled in (await self._records.under()).items():
            due = self._due(scheduled)
            if due is not None and due <= self._now():
                due = await self._done(key)
            if due is not None:
                wait = min(wait, max(0.0, due - self._now()))
        return wait

    async def _done(self, key: str) -> float | None:
        """Do what is due unless another process does; return when something is next."""
        later = self._now() + _RETRY_SECONDS
        try:
            lease = await self._store.lease(PREFIX + key, self._holder, seconds=_LEASE_SECONDS)
        except LeaseLost:
            return later
        try:
            return await self._fired(key)
        except WherryError as error:
            failed = {"schedule": key, "error": type(error).__name__}
            logger.warning("schedule not run; tried again", extra=failed)
            return later
        finally:
            await self._store.release(lease)

    async def _fired(self, key: str) -> float | None:
        found = await self._records.at(key)
        if found is None:
            return None
        scheduled, revision = found
        due, now = self._due(scheduled), self._now()
        if due is None or due > now:
            return due
        event = self._event(key, scheduled, due)
        try:
            await self._events.accept(event, hold=True)
        except ResourceNotFound:
            logger.warning("schedule without function", extra={"function": scheduled.function})
        changed = replace(scheduled, last=now)
        with suppress(Conflict):
            await self._records.put(key, changed, expect=revision)
        await self._events.settle(event.id)
        return self._due(changed)

    def _due(self, scheduled: Scheduled) -> float | None:
        schedule = parsed(scheduled.expression)
        return schedule.after(scheduled.last, declared=scheduled.declared)

    def _event(self, key: str, scheduled: Scheduled, due: float) -> Event:
        """Return EventBridge's "Scheduled Event" for a due time; always with the same id.

        Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
        """
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PREFIX}{key}@{due:.3f}"))
        region, account = self._place.region, self._place.account
        document = {
            "version": "0",
            "id": name,
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": account,
            "time": timestamp(due)[:-5] + "Z",
            "region": region,
            "resources": [f"arn:aws:events:{region}:{account}:rule/{key.replace('/', '-')}"],
            "detail": {},
        }
        return Event(
            id=name,
            function=scheduled.function,
            qualifier=LATEST,
            arn=self._place.arn(scheduled.function),
            payload=json.dumps(document).encode(),
            parent=SCHEDULE,
        )

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9


def _key(function: str, expression: str) -> str:
    return f"{function}/{hashlib.sha256(expression.encode()).hexdigest()[:12]}"
