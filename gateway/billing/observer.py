"""Writes down what billing must know of the configuration before it changes again."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from gateway.billing import accounts
from gateway.billing.accounts import ACCOUNTS, PRICES, Account, BadBilling, Known
from gateway.billing.periods import Month, Period, day_at
from gateway.billing.terms import Subscribed, observed
from wherry.clock import Clock
from wherry.model.consumer import Subscribed as Written
from wherry.model.product import Consumer
from wherry.model.world import World
from wherry.store import Conflict, Record, Store

logger = logging.getLogger(__name__)


async def observe(store: Store, world: World, clock: Clock) -> None:
    """Bring prices and accounts up to ``world``.

    Consumers that it no longer has keep their accounts: what they used is still billed.
    """
    records = await store.list(PRICES)
    for name, plan in world.plans.items():
        held = records.get(PRICES + name)
        known = accounts.known(held) if held else Known(())
        changed = known.changed(plan.spec.price, clock.unix_ns())
        if changed != known:
            await store.put(PRICES + name, accounts.body(changed))
    kept = await store.list(ACCOUNTS)
    current = subscriptions(world)
    names = {key.removeprefix(ACCOUNTS) for key in kept} | {*world.consumers}
    for name in sorted(names):
        consumer = world.consumers.get(name)
        try:
            record = kept.get(ACCOUNTS + name)
            await _bring_up(store, record, consumer, current.get(name, []), clock)
        except BadBilling:
            logger.exception("account not brought up")


def subscriptions(world: World) -> Mapping[str, list[Subscribed]]:
    """Return what each consumer is subscribed to: those whose fees run."""
    found: dict[str, list[Subscribed]] = defaultdict(list)
    for name, consumer in world.consumers.items():
        found[name] += (_subscribed(each, "") for each in consumer.spec.subscriptions)
    for subscription in world.subscriptions.values():
        spec = subscription.spec
        if spec.state == "active":
            found[spec.consumer].append(_subscribed(spec, spec.app or ""))
    return found


def _subscribed(written: Written, app: str) -> Subscribed:
    begins = None if written.begins is None else date.fromisoformat(written.begins)
    ends = None if written.ends is None else date.fromisoformat(written.ends)
    return Subscribed(written.product, app, written.plan, begins, ends)


async def _bring_up(
    store: Store,
    record: Record | None,
    consumer: Consumer | None,
    current: list[Subscribed],
    clock: Clock,
) -> None:
    while True:
        held = None if record is None else accounts.account(record)
        changed = _changed(held, consumer, current, clock.unix_ns())
        if changed is None or changed == held:
            return
        key = ACCOUNTS + changed.consumer
        try:
            expect = 0 if record is None else record.revision
            await store.put(key, accounts.body(changed), expect=expect)
        except Conflict:
            record = await store.get(key)
            continue
        return


def _changed(
    held: Account | None, consumer: Consumer | None, current: list[Subscribed], now_ns: int
) -> Account | None:
    if consumer is None:
        if held is None:
            return None
        today = day_at(now_ns, held.zone)
        return replace(held, terms=observed(held.terms, current, today))
    spec = consumer.spec
    if held is None:
        month = Month.at(now_ns, spec.timezone)
        begins_ns = Period.of(month, spec.timezone).begins_ns
        held = Account(consumer.name, consumer.name, None, spec.timezone, month, begins_ns)
    return replace(
        held,
        title=spec.title or consumer.name,
        email=spec.email,
        zone=spec.timezone,
        terms=observed(held.terms, current, day_at(now_ns, spec.timezone)),
    )
