"""Where billing gets usage from."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.billing.periods import Period, midnight_ns
from gateway.billing.statement import Amounts, Prices, Used
from gateway.billing.terms import Term, trial_end
from gateway.metering import rollup
from wherry.errors import WherryError
from wherry.store import Store


class NoLongerKept(WherryError):
    """Usage of that time is not kept in the detail that is asked for."""

    def __init__(self, consumer: str, why: str) -> None:
        super().__init__(f"usage of {consumer!r}: {why}")
        self.consumer = consumer


class UsageSource(Protocol):
    """Answers how much is billable."""

    async def billable(self, consumer: str, begins_ns: int, ends_ns: int) -> Amounts:
        """Return the consumer's billable units from one instant up to the other.

        Args:
            consumer: Whose.
            begins_ns: Unix nanoseconds, at a whole minute.
            ends_ns: Unix nanoseconds, at a whole minute.

        Raises:
            NoLongerKept: It cannot be told any more.
        """
        ...

    async def everyone(self, begins_ns: int, ends_ns: int) -> Mapping[str, Amounts]:
        """Return the billable units of every consumer; see `billable`."""
        ...


class Together:
    """Asks once for everyone where many are asked for one by one; for one look at all of them.

    Args:
        source: Is asked.
    """

    def __init__(self, source: UsageSource) -> None:
        self._source = source
        self._found: dict[tuple[int, int], Mapping[str, Amounts]] = {}

    async def billable(self, consumer: str, begins_ns: int, ends_ns: int) -> Amounts:
        """See `UsageSource.billable`; what is told is as old as the first question."""
        return (await self.everyone(begins_ns, ends_ns)).get(consumer, {})

    async def everyone(self, begins_ns: int, ends_ns: int) -> Mapping[str, Amounts]:
        """See `UsageSource.everyone`."""
        span = begins_ns, ends_ns
        if span not in self._found:
            self._found[span] = await self._source.everyone(begins_ns, ends_ns)
        return self._found[span]


class Metered:
    """Usage as the gateway has metered it.

    Args:
        store: Holds the rollups and the log.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def billable(self, consumer: str, begins_ns: int, ends_ns: int) -> Amounts:
        """See `UsageSource.billable`."""
        return (await self._found(consumer, begins_ns, ends_ns)).get(consumer, {})

    async def everyone(self, begins_ns: int, ends_ns: int) -> Mapping[str, Amounts]:
        """See `UsageSource.everyone`."""
        return await self._found(None, begins_ns, ends_ns)

    async def _found(
        self, consumer: str | None, begins_ns: int, ends_ns: int
    ) -> Mapping[str, Amounts]:
        if begins_ns >= ends_ns:
            return {}
        try:
            found = await rollup.used(
                self._store, consumer=consumer, begins_ns=begins_ns, ends_ns=ends_ns
            )
        except rollup.UsageGone as error:
            raise NoLongerKept(consumer or "everyone", str(error)) from None
        added: dict[str, Counter[Used]] = defaultdict(Counter)
        for key, total in found.items():
            used = Used(key.app, key.product, key.plan, key.meter)
            added[key.consumer][used] += total.billed_amount
        return added


async def chargeable(
    source: UsageSource,
    consumer: str,
    period: Period,
    terms: Iterable[Term],
    prices: Prices,
) -> Amounts:
    """Return the units of ``period`` that are billed: all but those of trials."""
    used = dict(await source.billable(consumer, period.begins_ns, period.ends_ns))
    ends = _trials(used, tuple(terms), prices, period.zone)
    for instant in sorted({each for each in ends.values() if each > period.begins_ns}):
        upto = min(instant, period.ends_ns)
        for key, amount in (await source.billable(consumer, period.begins_ns, upto)).items():
            if ends.get((key.product, key.plan)) == instant:
                used[key] = used.get(key, 0) - amount
    return {key: amount for key, amount in used.items() if amount > 0}


def _trials(
    used: Iterable[Used], terms: tuple[Term, ...], prices: Prices, zone: str
) -> Mapping[tuple[str, str], int]:
    found = {}
    for product, plan in {(key.product, key.plan) for key in used}:
        day = trial_end(terms, product, prices.get(plan))
        if day is not None:
            found[product, plan] = midnight_ns(day, zone)
    return found
