"""The task that keeps billing going: learns subscriptions, closes months, watches credit."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress

from gateway.billing.accounts import Account
from gateway.billing.balances import Estimator
from gateway.billing.closing import Closer
from gateway.billing.observer import observe
from gateway.billing.source import UsageSource
from wherry.clock import Clock
from wherry.config.watch import Worlds
from wherry.errors import WherryError
from wherry.model.world import World
from wherry.store import Lease, LeaseLost, Store

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often credit is compared with what was used."""

GRACE_SECONDS = 3600.0
"""How long after a month's end usage may still come before it is closed; later it is corrected."""

_LEASE = "billing/biller"
_LEASE_SECONDS = 30.0
_CLOSE_SECONDS = 60.0
_REST = 9


class Biller:
    """Does what billing does by itself. Of several, the one with the lease works.

    Args:
        store: Holds everything that billing writes.
        source: Says what was used.
        clock: Says what has ended.
        look: Seconds between two looks at prepaid credit.
        grace: See `GRACE_SECONDS`.
    """

    def __init__(
        self,
        store: Store,
        source: UsageSource,
        clock: Clock,
        *,
        look: float = LOOK_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._store, self._clock = store, clock
        self._look, self._grace = look, grace
        self._holder = secrets.token_hex(8)
        self._lease: Lease | None = None
        self._seen: World | None = None
        self._accounts: Sequence[Account] = ()
        self._checked = -_CLOSE_SECONDS
        self._failing = False
        self.closer = Closer(store, source, clock)
        self._estimator = Estimator(store, self.closer)

    async def run(self, worlds: Worlds) -> None:
        """Work until cancelled, then leave the work to others.

        What fails is logged, once until it goes well again, and tried at the next look. A look
        that takes long makes the pause after it longer, so that looks never take more than a
        tenth of the time.
        """
        try:
            while True:
                began = self._clock.now()
                await self._turn(worlds.current)
                await asyncio.sleep(max(self._look, (self._clock.now() - began) * _REST))
        finally:
            if self._lease is not None:
                with suppress(WherryError):
                    await self._store.release(self._lease)

    async def _turn(self, world: World) -> None:
        try:
            await self.tick(world)
        except LeaseLost:
            self._seen = None
        except WherryError as error:
            if not self._failing:
                logger.warning("billing failed", extra={"why": str(error)})
            self._failing = True
        else:
            self._failing = False

    async def tick(self, world: World) -> None:
        """Do once what there is to do.

        Raises:
            LeaseLost: Another process does it.
        """
        await self._extend()
        fresh = world is not self._seen
        if fresh:
            await observe(self._store, world, self._clock)
            self._seen = world
        if fresh or self._clock.now() - self._checked >= _CLOSE_SECONDS:
            self._accounts = await self._closed(await self.closer.books.accounts())
            self._checked = self._clock.now()
        rates = await self.closer.books.rates()
        await self._estimator.look(self._accounts, rates, self._clock.unix_ns())

    async def _closed(self, accounts: Sequence[Account]) -> Sequence[Account]:
        """Close every month that is over; one consumer's trouble is logged and stops no other."""
        due_ns = self._clock.unix_ns() - round(self._grace * 10**9)
        closed = 0
        for account in accounts:
            try:
                closed += await self._caught_up(account, due_ns)
            except WherryError:
                logger.exception("period not closed", extra={"consumer": account.consumer})
        return await self.closer.books.accounts() if closed else accounts

    async def _caught_up(self, account: Account, due_ns: int) -> int:
        closed = 0
        while account.period().ends_ns <= due_ns:
            await self._extend()
            await self.closer.close(account.consumer)
            account, _ = await self.closer.books.account(account.consumer)
            closed += 1
        return closed

    async def _extend(self) -> None:
        """Hold the lease for at least half of its time to come.

        Raises:
            LeaseLost: Another process has it.
        """
        half_ns = round(_LEASE_SECONDS / 2 * 10**9)
        if self._lease is None or self._lease.expires_ns - self._clock.unix_ns() < half_ns:
            self._lease = None
            self._lease = await self._store.lease(_LEASE, self._holder, seconds=_LEASE_SECONDS)
