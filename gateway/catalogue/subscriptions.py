"""Who uses what under which plan, and since when until when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from gateway.days import midnight_ns
from wherry.model.product import Consumer, Plan, Subscribed
from wherry.model.world import World

Allowed = TypeVar("Allowed")

Prepare = Callable[[Plan, str, str | None], Allowed]
"""Makes a plan's limits ready, in a time zone, for a subscription that began on a day."""

_EVER = 1 << 63


@dataclass(frozen=True, slots=True)
class Terms(Generic[Allowed]):
    """A product's use under a plan.

    Attributes:
        plan: Its name.
        allowance: Its limits, ready.
        begins_ns: Unix nanoseconds; the first that is part of it.
        ends_ns: Unix nanoseconds; the first that no longer is.
    """

    plan: str
    allowance: Allowed
    begins_ns: int
    ends_ns: int


class Subscriptions(Generic[Allowed]):
    """Every active subscription of one World.

    Args:
        world: Holds them.
        prepare: See `Prepare`; asked once for plans, zones and days that are alike.

    Attributes:
        blocked: Consumers of whom every call is refused.
    """

    def __init__(self, world: World, prepare: Prepare[Allowed]) -> None:
        self._terms: dict[tuple[str, str | None, str], tuple[Terms[Allowed], ...]] = {}
        self._made: dict[tuple[str, str, str | None], Allowed] = {}
        self._prepare, self._plans = prepare, world.plans
        self.blocked = frozenset(
            name for name, consumer in world.consumers.items() if consumer.spec.blocked
        )
        for consumer in world.consumers.values():
            self._add_all(consumer, None, consumer.spec.subscriptions)
        for each in world.subscriptions.values():
            owner = world.consumers.get(each.spec.consumer)
            if owner is not None and each.spec.state == "active":
                self._add_all(owner, each.spec.app, [each.spec])

    def of(self, consumer: str, app: str, product: str, now_ns: int) -> Terms[Allowed] | None:
        """Return the terms under which an app uses ``product`` now; its own beat its owner's."""
        return self._current((consumer, app, product), now_ns) or self._current(
            (consumer, None, product), now_ns
        )

    def _current(self, key: tuple[str, str | None, str], now_ns: int) -> Terms[Allowed] | None:
        for terms in self._terms.get(key, ()):
            if terms.begins_ns <= now_ns < terms.ends_ns:
                return terms
        return None

    def _add_all(self, consumer: Consumer, app: str | None, given: Iterable[Subscribed]) -> None:
        zone = consumer.spec.timezone
        for each in given:
            made = Terms(
                each.plan,
                self._allowance(each.plan, zone, each.begins),
                _instant(each.begins, zone, -_EVER),
                _instant(each.ends, zone, _EVER),
            )
            key = (consumer.name, app, each.product)
            self._terms[key] = (*self._terms.get(key, ()), made)

    def _allowance(self, plan: str, zone: str, begins: str | None) -> Allowed:
        key = (plan, zone, begins)
        if key not in self._made:
            self._made[key] = self._prepare(self._plans[plan], zone, begins)
        return self._made[key]


def _instant(day: str | None, zone: str, otherwise: int) -> int:
    """Return when ``day`` begins in ``zone``, in Unix nanoseconds."""
    if day is None:
        return otherwise
    return midnight_ns(date.fromisoformat(day), ZoneInfo(zone))
