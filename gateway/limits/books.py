"""One node's dealings with the Store over its counts: reports, questions and claims.

One task does them in rounds; while a round is under way the next one gathers, so the more there
is to ask the less each question costs.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.limits.claims import Claims
from gateway.limits.counters import Bucket, Counted, Gate
from gateway.limits.limiter import Counter
from wherry.clock import Clock
from wherry.store import Store, StoreFailed
from wherry.store.bounds import MAX_STEPS
from wherry.store.steps import Advance, Advanced

logger = logging.getLogger(__name__)

NODES = "limits/nodes"
"""What nodes hold one of, so that each knows how many they are."""

NODE_SECONDS = 10.0
"""After so long a node that is gone counts no more, and its places are free again."""

MAX_ASKS = 10_000
"""Most calls that wait for the Store at once; more are refused."""

_ANSWER_SECONDS = 2.0
_RENEW_SECONDS = 1.0
_SHARED_SECONDS = 0.05
_ALONE_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_LAST_ROUNDS = 3


class Crowded(Exception):
    """`MAX_ASKS` calls wait already."""


@dataclass(frozen=True, slots=True)
class _Ask:
    limiter: Bucket | Counted
    cost: int
    step: Advance
    answer: "Future[bool]"


class Books:
    """See the module.

    Args:
        store: Where counts are kept.
        clock: Where the time is read.
        node: Name of this process among those that share the store.
        shared: Whether others count too; else this process is alone and writes only what it
            must not forget.

    Attributes:
        nodes: How many share the counts; 0: this one is alone.
        failing: Whether the store could not be reached the last time.
        dropped: Reports of which it is not known whether they arrived.
    """

    def __init__(self, store: Store, clock: Clock, *, node: str, shared: bool) -> None:
        self._store, self._clock, self._node = store, clock, node
        self._shared = shared
        self.nodes = 1 if shared else 0
        self.failing = False
        self.dropped = 0
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._dirty: list[Counter] = []
        self._asks: list[_Ask] = []
        self._claims = Claims(node, NODE_SECONDS)
        self._renewed = self._reported = float("-inf")

    def owe(self, counter: Counter, *, at_once: bool = False) -> None:
        """Report ``counter`` in the next round, or ``at_once`` if others may wait for it."""
        self._dirty.append(counter)
        if at_once:
            self._wake.set()

    def ask(self, limiter: Bucket | Counted, cost: int) -> "Future[bool]":
        """Ask the Store for a call; the answer is whether it took it.

        Raises:
            Crowded: Too many calls wait.
        """
        if len(self._asks) >= MAX_ASKS:
            raise Crowded
        answer: Future[bool] = asyncio.get_running_loop().create_future()
        step = limiter.ask(cost, self._clock.unix_ns())
        self._asks.append(_Ask(limiter, cost, step, answer))
        self._wake.set()
        return answer

    def enter(self, gate: Gate) -> "Future[bool]":
        """Ask for a place; the answer is whether one was taken.

        Raises:
            Crowded: Too many calls wait.
        """
        if self._claims.waiting >= MAX_ASKS:
            raise Crowded
        self._wake.set()
        return self._claims.enter(gate)

    def leave(self, gate: Gate) -> None:
        """Give a place back, at once if others may need it."""
        gate.in_use -= 1
        if self._shared and self._claims.spared(gate, max(1, self.nodes)):
            self._wake.set()

    async def run(self) -> None:
        """Do rounds until cancelled."""
        while True:
            await self.round()
            if self.failing:
                pause = _RETRY_SECONDS
            else:
                pause = _SHARED_SECONDS if self._shared else _ALONE_SECONDS
            try:
                async with asyncio.timeout(pause):
                    if self.failing:
                        await asyncio.Event().wait()
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def end(self) -> None:
        """Report what is left and give back this node's share of everything."""
        if self._shared:
            self._claims.give_up()
        for _ in range(_LAST_ROUNDS):
            await self.round(last=True)
            if self.failing or not self._dirty:
                break
        if self._shared and not self.failing:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._store.hold(NODES, self._node, 0, most=None, seconds=NODE_SECONDS)
            except (StoreFailed, TimeoutError):
                logger.warning("limits not given back", extra={"node": self._node})

    async def round(self, *, last: bool = False) -> None:
        """Ask and report what has gathered.

        Args:
            last: Report also what could still wait.
        """
        async with self._one_at_a_time:
            self._wake.clear()
            try:
                await self._renew()
                await self._count(self._due(last=last))
                if self._shared:
                    await self._claim()
            except (StoreFailed, TimeoutError) as error:
                self._failed(error)
            else:
                if self.failing:
                    logger.warning("limits: the store answers again", extra={"node": self._node})
                self.failing = False

    async def _renew(self) -> None:
        """Say that this node lives, which also shows whether the store does."""
        if not self._shared and not self.failing:
            return
        now = self._clock.now()
        if not self.failing and now - self._renewed < _RENEW_SECONDS:
            return
        async with asyncio.timeout(_ANSWER_SECONDS):
            held = await self._store.hold(NODES, self._node, 1, most=None, seconds=NODE_SECONDS)
        if self._shared:
            self.nodes = max(1, held.total)
            self._claims.renew_all()
        self._renewed = now

    def _due(self, *, last: bool) -> list[Counter]:
        """Take the counters to report now; who is alone is in no hurry."""
        now = self._clock.now()
        if not (self._shared or last) and now - self._reported < _ALONE_SECONDS:
            return []
        self._reported = now
        dirty, self._dirty = self._dirty, []
        return dirty

    async def _count(self, dirty: list[Counter]) -> None:
        """Report ``dirty`` before anything is asked, so that the answers count it."""
        asks, self._asks = self._asks, []
        work: list[Counter | _Ask] = [*dirty, *asks]
        while work:
            batch, work = work[:MAX_STEPS], work[MAX_STEPS:]
            now = self._clock.unix_ns()
            steps = [each.step if isinstance(each, _Ask) else each.report(now) for each in batch]
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    found = await self._store.advance_all(steps)
            except BaseException as error:
                self._lost(batch, work, error)
                raise
            for each, step, answer in zip(batch, steps, found, strict=True):
                self._take_in(each, step, answer, now)

    def _take_in(self, each: Counter | _Ask, step: Advance, found: Advanced, now: int) -> None:
        if not isinstance(each, _Ask):
            each.answered(found, now)
            if each.dirty and not step.n:  # it only asked, and is still owed
                self._dirty.append(each)
            return
        limiter = each.limiter
        counter = limiter.count if isinstance(limiter, Counted) else limiter
        counter.answered(found, now)
        if not each.answer.cancelled():
            each.answer.set_result(found.passed)
        elif found.passed and (owed := limiter.refund(each.cost)):
            self.owe(owed, at_once=True)

    async def _claim(self) -> None:
        while claims := self._claims.next(self.nodes):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    held = await self._store.hold_all([claim for _, claim in claims])
            except BaseException:
                self._claims.lost(claims)
                raise
            self._claims.answered(claims, held, self._clock.unix_ns())

    def _lost(
        self,
        sent: Sequence[Counter | _Ask],
        unsent: Sequence[Counter | _Ask],
        error: BaseException,
    ) -> None:
        for each in sent:
            if not isinstance(each, _Ask):
                self.dropped += 1
                if each.dirty or each.lost(self.nodes):
                    self._dirty.append(each)
        self._dirty += [each for each in unsent if not isinstance(each, _Ask)]
        for each in (*sent, *unsent):
            if isinstance(each, _Ask) and not each.answer.cancelled():
                each.answer.set_exception(StoreFailed("limits", type(error).__name__))

    def _failed(self, error: BaseException) -> None:
        if not self.failing:
            extra = {"node": self._node, "cause": str(error) or type(error).__name__}
            logger.warning("limits: the store cannot be reached", extra=extra)
        self.failing = True
        asks, self._asks = self._asks, []
        self._lost((), asks, error)
        self._claims.refuse(StoreFailed("limits", type(error).__name__))
