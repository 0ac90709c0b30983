"""The task of billing learns from the configuration, and outlives what that forgets."""

import asyncio
from datetime import date

import pytest
from support.billing import SetClock, Uses

from gateway.billing.biller import Biller
from gateway.billing.books import Books
from gateway.billing.periods import Month
from gateway.billing.terms import Term
from wherry.config import load
from wherry.config.watch import Worlds
from wherry.store import LeaseLost, StoreFailed
from wherry.store.memory import MemoryStore

PLANS = """
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: api}
spec:
  plans: [basic, pro]
  routes: [{path: /x, to: {mock: {text: x}}}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
spec:
  price:
    currency: EUR
    recurring: {amount: "30"}
    usage: [{model: perUnit, unit: "0.01"}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: pro}
spec:
  price:
    currency: EUR
    recurring: {amount: "90"}
    usage: [{model: perUnit, unit: "0.001"}]
"""

CONSUMER = """---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: acme}
spec:
  title: Acme
  timezone: Europe/Berlin
"""

SUBSCRIPTION = """---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {name: acme-api}
spec: {consumer: acme, product: api, plan: PLAN, state: STATE}
"""


def subscribed(plan, state="active"):
    return SUBSCRIPTION.replace("PLAN", plan).replace("STATE", state)


class Failing(MemoryStore):
    """Gives short leases, none while it is down, and counts how often it is asked."""

    down, asked = False, 0

    async def lease(self, key, holder, **_):
        self.asked += 1
        if self.down:
            raise StoreFailed("test", "down")
        return await super().lease(key, holder, seconds=0.001)


@pytest.fixture
def clock():
    return SetClock("2026-10-11T12:00")


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
def uses():
    return Uses()


@pytest.fixture
def biller(store, uses, clock):
    return Biller(store, uses, clock)


@pytest.fixture
def world(tmp_path):
    def written(*documents):
        (tmp_path / "house.yaml").write_text("".join(documents))
        return load(tmp_path)

    return written


async def test_a_plan_switched_in_mid_month_is_billed_by_days_of_each(
    store, uses, biller, clock, world
):
    await biller.tick(world(PLANS, CONSUMER, subscribed("basic")))
    clock.set("2026-10-20T22:30")
    await biller.tick(world(PLANS, CONSUMER, subscribed("pro")))
    uses.add("2026-10-15T00:00", 1000)
    uses.add("2026-10-25T00:00", 1000, plan="pro")
    clock.set("2026-11-01T02:00")
    await biller.tick(world(PLANS, CONSUMER, subscribed("pro")))
    [invoice] = await Books(store).invoices()
    assert [(line.charge.text, line.charge.amount) for line in invoice.lines] == [
        ("Monthly fee, 10 of 31 days", 968),
        ("requests", 1000),
        ("Monthly fee, 11 of 31 days", 3194),
        ("requests", 100),
    ]
    assert (invoice.title, invoice.zone, invoice.month) == (
        "Acme",
        "Europe/Berlin",
        Month(2026, 10),
    )


async def test_a_consumer_that_is_gone_still_gets_a_last_invoice(store, uses, biller, clock, world):
    await biller.tick(world(PLANS, CONSUMER, subscribed("basic")))
    uses.add("2026-10-12T00:00", 500)
    clock.set("2026-10-13T12:00")
    await biller.tick(world(PLANS))
    clock.set("2026-12-01T02:00")
    await biller.tick(world(PLANS))
    [invoice] = await Books(store).invoices()
    assert [line.charge.amount for line in invoice.lines] == [194, 500]


async def test_a_plan_that_is_gone_still_has_its_price(store, uses, biller, clock, world):
    await biller.tick(world(PLANS, CONSUMER, subscribed("basic")))
    uses.add("2026-10-12T00:00", 500)
    bare = PLANS.split("---")
    await biller.tick(world(bare[0].replace("basic, ", ""), "---", bare[2], CONSUMER))
    clock.set("2026-11-01T02:00")
    await biller.tick(world(PLANS, CONSUMER))
    assert [invoice.total for invoice in await Books(store).invoices()] == [500]


async def test_a_subscription_that_waits_for_approval_has_no_fee(store, biller, world):
    await biller.tick(world(PLANS, CONSUMER, subscribed("basic", "pending")))
    assert (await Books(store).account("acme"))[0].terms == ()
    await biller.tick(world(PLANS, CONSUMER, subscribed("basic")))
    account, _ = await Books(store).account("acme")
    assert account.terms == (Term("api", "", "basic", date(2026, 10, 11)),)


async def test_a_month_is_not_closed_before_late_usage_had_its_hour(store, biller, clock, world):
    house = world(PLANS, CONSUMER, subscribed("basic"))
    await biller.tick(house)
    clock.set("2026-10-31T23:59")
    await biller.tick(house)
    assert await Books(store).invoices() == []
    clock.set("2026-11-01T00:01")
    await biller.tick(house)
    assert len(await Books(store).invoices()) == 1


async def test_a_biller_that_was_away_for_months_closes_each_of_them(store, biller, clock, world):
    house = world(PLANS, CONSUMER, subscribed("basic"))
    await biller.tick(house)
    clock.set("2027-01-05T00:00")
    await biller.tick(house)
    found = await Books(store).invoices()
    assert [str(each.month) for each in found] == ["2026-10", "2026-11", "2026-12"]


async def test_of_two_billers_one_works(store, uses, biller, clock, world):
    house = world(PLANS, CONSUMER, subscribed("basic"))
    await biller.tick(house)
    other = Biller(store, uses, clock)
    with pytest.raises(LeaseLost):
        await other.tick(house)
    clock.set("2026-10-11T12:01")
    await other.tick(house)


async def test_a_biller_that_ends_leaves_the_work_to_the_next_one_at_once(
    store, uses, biller, clock, world
):
    house = world(PLANS, CONSUMER, subscribed("basic"))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(biller.run(Worlds(house)))
        while not await Books(store).accounts():
            await asyncio.sleep(0.01)
        running.cancel()
    await Biller(store, uses, clock).tick(house)


async def test_a_store_that_fails_is_said_once_until_it_answers(uses, clock, world, caplog):
    store = Failing(clock)
    house = world(PLANS, CONSUMER, subscribed("basic"))
    biller = Biller(store, uses, clock, look=0.001)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(biller.run(Worlds(house)))
        for said in (1, 2):
            store.down, asked = True, store.asked
            while store.asked < asked + 10:
                await asyncio.sleep(0.01)
            assert caplog.text.count("billing failed") == said
            store.down, asked = False, store.asked
            while store.asked == asked:
                await asyncio.sleep(0.01)
        running.cancel()


async def test_one_consumers_trouble_stops_no_other(store, uses, biller, clock, world, caplog):
    other = CONSUMER.replace("name: acme", "name: beta") + subscribed("basic").replace(
        "acme", "beta"
    )
    house = world(PLANS, CONSUMER, subscribed("basic"), other)
    await biller.tick(house)
    uses.add("2026-10-12T00:00", 1, plan="unheard-of")
    clock.set("2026-11-01T02:00")
    await biller.tick(house)
    assert [invoice.consumer for invoice in await Books(store).invoices()] == ["beta"]
    assert "period not closed" in caplog.text
    assert "plan 'unheard-of': no price known" in caplog.text


async def test_a_changed_price_counts_from_the_next_month_on(store, uses, biller, clock, world):
    await biller.tick(world(PLANS, CONSUMER, subscribed("basic")))
    clock.set("2026-10-20T00:00")
    dearer = world(PLANS.replace('"0.01"', '"0.05"'), CONSUMER, subscribed("basic"))
    await biller.tick(dearer)
    uses.add("2026-10-25T00:00", 100)
    uses.add("2026-11-25T00:00", 100)
    clock.set("2026-11-03T00:00")
    dearest = world(PLANS.replace('"0.01"', '"9"'), CONSUMER, subscribed("basic"))
    await biller.tick(dearest)
    clock.set("2027-01-01T02:00")
    await biller.tick(dearest)
    found = await Books(store).invoices()
    assert [[line.charge.unit for line in invoice.lines] for invoice in found] == [
        ["30", "0.05"],
        ["30", "0.05"],
        ["30"],
    ]


async def test_a_plan_made_in_mid_month_may_still_be_mended(store, uses, biller, clock, world):
    await biller.tick(world(CONSUMER))
    clock.set("2026-10-12T00:00")
    await biller.tick(world(PLANS.replace('"0.01"', '"100"'), CONSUMER, subscribed("basic")))
    clock.set("2026-10-12T00:05")
    mended = world(PLANS, CONSUMER, subscribed("basic"))
    await biller.tick(mended)
    uses.add("2026-10-25T00:00", 100)
    clock.set("2026-11-01T02:00")
    await biller.tick(mended)
    assert [each.lines[-1].charge.unit for each in await Books(store).invoices()] == ["0.01"]


async def test_a_stopped_consumer_goes_on_when_the_plan_is_no_longer_prepaid(
    store, uses, biller, clock, world
):
    prepaid = PLANS.replace("currency: EUR", "currency: EUR\n    prepaid: true", 1)
    await biller.tick(world(prepaid, CONSUMER, subscribed("basic")))
    assert (await store.get("billing/stopped/acme")).body == b'["api"]'
    await biller.tick(world(prepaid, CONSUMER, subscribed("pro")))
    assert (await store.get("billing/stopped/acme")).body == b"[]"
