"""Every limit of every caller, as this process knows and counts it."""

import asyncio
import hashlib
from asyncio import Future
from collections.abc import Mapping
from weakref import WeakValueDictionary

from gateway.call import Caller, Head
from gateway.limits.allowance import Allowance, Pace, Share, subject
from gateway.limits.books import Books, Crowded
from gateway.limits.counters import Bucket, Count, Counted, Gate
from gateway.limits.grant import Grant, Place, refusal
from gateway.limits.limiter import ASK, REFUSE, Limiter
from gateway.problem import out_of_capacity
from wherry.clock import Clock
from wherry.store import Store, StoreFailed

MAX_PLACES = 100_000
"""Callers kept, give or take half; the ones unused for longest are forgotten first."""

_PATIENCE = 5.0
_LONG = 500
_ROUNDS = 8

_Key = tuple[Allowance, str, str, str, str, str, str]


class Limits:
    """Lets calls through, or not.

    Alone (``shared=False``) it counts in memory, reads each quota once when it is first used and
    writes what was used every second, so that a new start forgets at most a second. Shared, it
    keeps to the rules of `gateway.limits.counters`. Either way `run` has to be running.

    Args:
        store: Where counts are kept.
        clock: Where the time is read; nodes that share counts need wall clocks that agree.
        node: Name of this process among those that share the store.
        shared: Whether other processes count the same.
        most: Callers kept.
    """

    def __init__(
        self, store: Store, clock: Clock, *, node: str, shared: bool, most: int = MAX_PLACES
    ) -> None:
        self._clock, self._shared = clock, shared
        self.books = Books(store, clock, node=node, shared=shared)
        self._most = max(1, most // 2)
        self._young: dict[_Key, Place] = {}
        self._old: dict[_Key, Place] = {}
        self._buckets: WeakValueDictionary[str, Bucket] = WeakValueDictionary()
        self._counts: WeakValueDictionary[str, Count] = WeakValueDictionary()
        self._gates: WeakValueDictionary[str, Gate] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def failing(self) -> bool:
        """Whether the store could not be reached the last time."""
        return self.books.failing

    async def run(self) -> None:
        """Keep this node and the store together until cancelled; then call `end`."""
        await self.books.run()

    async def end(self) -> None:
        """Write what is left."""
        await self.books.end()

    def take(
        self,
        allowance: Allowance,
        caller: Caller,
        head: Head,
        product: str,
        operation: str,
        cost: int,
    ) -> Grant | None:
        """Let a call through if that needs no asking; None: `take_shared` has to ask.

        Args:
            allowance: The plan that the call is made under.
            caller: Who calls.
            head: What of; its peer may be limited.
            product: What is called.
            operation: Which operation of it.
            cost: Units that the call counts, at least 0.

        Raises:
            Refused: 429, a limit is reached; 503, the store cannot be reached and the plan
                is closed then.
        """
        now = self._clock.unix_ns()
        place = self._place(allowance, caller, head.peer, product, operation, now)
        books = self.books
        if books.failing and self._shared:
            return self._cut_off(place, cost, now)
        nodes, asks = books.nodes, False
        for limiter in place.limiters:
            if verdict := limiter.check(cost, now, nodes):
                if verdict is REFUSE:
                    raise refusal(place, limiter, cost, now)
                asks = True
        if asks:
            return None
        for limiter in place.limiters:
            if owed := limiter.spend(cost, now, nodes):
                books.owe(owed)
        return Grant(place, now, books.leave)

    async def take_shared(
        self,
        allowance: Allowance,
        caller: Caller,
        head: Head,
        product: str,
        operation: str,
        cost: int,
    ) -> Grant:
        """Let a call through, asking the store where knowledge does not reach.

        Raises:
            Refused: See `take`; also 503, too many calls wait for the store.
        """
        now = self._clock.unix_ns()
        place = self._place(allowance, caller, head.peer, product, operation, now)
        if self.books.failing:
            return self._cut_off(place, cost, now)
        paid: list[Limiter] = []
        try:
            await self._pay(place, cost, paid)
        except StoreFailed:
            self._refund(paid, cost)
            return self._cut_off(place, cost, now)
        except Crowded:
            self._refund(paid, cost)
            raise out_of_capacity("Too many calls wait for their limits.") from None
        except BaseException:
            self._refund(paid, cost)
            raise
        return Grant(place, self._clock.unix_ns(), self.books.leave)

    def spent(
        self,
        allowance: Allowance,
        caller: Caller,
        product: str,
        operation: str,
        amounts: Mapping[str, int],
    ) -> None:
        """Count what a call turned out to use, by meter, towards the quotas on these meters."""
        if not allowance.meters:
            return
        now = self._clock.unix_ns()
        place = self._place(allowance, caller, "", product, operation, now)
        for each in place.counts:
            amount = 0 if each.share.requests else amounts.get(each.share.meter, 0)
            if amount > 0 and (owed := each.count.add(amount)):
                self.books.owe(owed)

    async def _pay(self, place: Place, cost: int, paid: list[Limiter]) -> None:
        """Have every limit of ``place`` count the call; ``paid`` holds those that did.

        Raises:
            Refused: One does not let it through.
            StoreFailed: The store cannot say.
            Crowded: Too many calls wait.
        """
        for _ in range(_ROUNDS):
            now, nodes = self._clock.unix_ns(), self.books.nodes
            asked = []
            for limiter in place.limiters:
                if limiter in paid:
                    continue
                verdict = limiter.check(cost, now, nodes)
                if verdict is REFUSE:
                    raise refusal(place, limiter, cost, now)
                if verdict is ASK:
                    asked.append(limiter)
            if not asked:
                for limiter in place.limiters:
                    if limiter not in paid and (owed := limiter.spend(cost, now, nodes)):
                        self.books.owe(owed)
                return
            await self._ask(asked, cost, paid)
        raise out_of_capacity("The limits change faster than they can be asked for.")

    async def _ask(self, asked: list[Limiter], cost: int, paid: list[Limiter]) -> None:
        answers: list[tuple[Limiter, Future[bool]]] = []
        try:
            for limiter in asked:
                if isinstance(limiter, Gate):
                    answers.append((limiter, self.books.enter(limiter)))
                elif isinstance(limiter, Bucket | Counted):
                    answers.append((limiter, self.books.ask(limiter, cost)))
            async with asyncio.timeout(_PATIENCE):
                for _, answer in answers:
                    await answer
        except TimeoutError:
            raise StoreFailed("limits", f"no answer within {_PATIENCE:g} s") from None
        finally:
            for limiter, answer in answers:
                if not answer.done():
                    answer.cancel()
                elif not answer.cancelled() and answer.exception() is None and answer.result():
                    paid.append(limiter)

    def _refund(self, paid: list[Limiter], cost: int) -> None:
        for limiter in paid:
            if isinstance(limiter, Gate):
                self.books.leave(limiter)
            elif owed := limiter.refund(cost):
                self.books.owe(owed, at_once=True)

    def _cut_off(self, place: Place, cost: int, now: int) -> Grant:
        """Decide without the store, as the plan says."""
        how, nodes = place.allowance.when_store_fails, max(1, self.books.nodes)
        if how == "closed" and place.limiters:
            raise out_of_capacity("Limits cannot be checked now.")
        for limiter in place.limiters:
            if how == "local" and not limiter.alone(cost, now, nodes):
                raise refusal(place, limiter, cost, now)
        for limiter in place.limiters:
            parts = nodes if how == "local" else 1
            if owed := limiter.spend(cost, now, self.books.nodes, parts):
                self.books.owe(owed)
        return Grant(place, now, self.books.leave)

    def _place(
        self,
        allowance: Allowance,
        caller: Caller,
        peer: str,
        product: str,
        operation: str,
        now: int,
    ) -> Place:
        key = (
            allowance,
            caller.consumer,
            caller.app,
            caller.credential,
            product,
            operation if allowance.by_operation else "",
            peer if allowance.by_address else "",
        )
        place = self._young.get(key)
        if place is not None and now < place.ends:
            return place
        place = self._old.get(key)
        if place is None or now >= place.ends:
            place = self._made(key, caller, now)
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = place
        return place

    def _made(self, key: _Key, caller: Caller, now: int) -> Place:
        allowance, *_, product, operation, peer = key
        buckets = tuple(
            self._bucket(pace, f"{allowance.plan}/{subject(pace.by, caller, peer)}/{product}")
            for pace in allowance.paces
        )
        counts = tuple(
            Counted(share, self._count(share, caller, product, operation, now))
            for share in allowance.shares
        )
        gate = None
        if allowance.places is not None:
            whose = subject(allowance.places.by, caller, peer)
            name = _short(f"calls/{allowance.plan}/{whose}/{product}")
            most = allowance.places.most
            gate = self._gates.get(name) or self._gates.setdefault(name, Gate(most, name))
            gate.most = most
        return Place(allowance, buckets, counts, gate)

    def _bucket(self, pace: Pace, whose: str) -> Bucket:
        level = _short(f"pace/{pace.name}/{pace.interval}-{pace.room}/{whose}")
        return self._buckets.get(level) or self._buckets.setdefault(level, Bucket(pace, level))

    def _count(self, share: Share, caller: Caller, product: str, operation: str, now: int) -> Count:
        window = share.windows(now)
        whose = f"{caller.consumer}/{caller.app}" if share.app else caller.consumer
        what = "" if share.per == "all" else product
        what += f"/{operation}" if share.per == "operation" else ""
        level = _short(f"quota/{share.name}/{share.meter}/{window.name}/{whose}//{what}")
        count = self._counts.get(level) or self._counts.setdefault(level, Count(level, window))
        count.window = window
        return count


def _short(name: str) -> str:
    """Return ``name``, or what it hashes to behind its beginning if it is long."""
    if len(name) <= _LONG:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16)
    return f"{name[:64]}#{digest.hexdigest()}"
