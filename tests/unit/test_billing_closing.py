"""A closed month never changes, its numbers have no gaps, and a closer may die at any step."""

import asyncio
from dataclasses import replace
from datetime import date
from itertools import count

import pytest
from support.billing import DyingStore, SetClock, Uses, opened_account, utc

from gateway.billing import accounts
from gateway.billing.accounts import ACCOUNTS, INVOICES, PRICES, Known, Version
from gateway.billing.balances import Balances, Estimator
from gateway.billing.books import UnknownAccount
from gateway.billing.closing import Closer, NotNext, StillOpen
from gateway.billing.desk import Desk
from gateway.billing.ledger import Entry
from gateway.billing.periods import Month
from gateway.billing.terms import Term
from wherry.model.pricing import Price, Recurring, Tier, UsagePrice
from wherry.store import StoreFailed

OCTOBER, NOVEMBER, DECEMBER = Month(2026, 10), Month(2026, 11), Month(2026, 12)
EVER = date(2026, 1, 1)
TERMS = (Term("api", "", "basic", EVER),)


def priced(unit="0.01", fee="30", **more):
    usage = [UsagePrice(model="perUnit", unit=unit)]
    return Price(currency="EUR", recurring=Recurring(amount=fee), usage=usage, **more)


@pytest.fixture
def clock():
    return SetClock("2026-11-01T02:00")


@pytest.fixture
def store(clock):
    return DyingStore(clock)


@pytest.fixture
def uses():
    return Uses()


@pytest.fixture
def closer(store, uses, clock):
    return Closer(store, uses, clock)


def totals(invoices):
    return [(invoice.number, str(invoice.month), invoice.total) for invoice in invoices]


# Closing


async def test_a_month_is_closed_with_what_was_used_in_it(store, uses, closer):
    await opened_account(store, terms=TERMS, basic=priced(setup="7"))
    uses.add("2026-09-30T23:59", 1000)
    uses.add("2026-10-31T23:59", 200)
    uses.add("2026-11-01T00:00", 4000)
    assert totals(await closer.close("acme")) == [(1, "2026-10", 700 + 3000 + 200)]
    assert (await closer.books.account("acme"))[0].closed == OCTOBER


async def test_a_closed_month_is_the_same_whenever_it_is_closed_again(store, uses, closer):
    await opened_account(store, terms=TERMS, basic=priced())
    first = await closer.close("acme")
    uses.add("2026-10-31T12:00", 200)
    await opened_account(store, terms=TERMS, basic=priced(fee="99"))
    assert await closer.close("acme", OCTOBER) == first
    assert await closer.books.invoices("acme") == first


async def test_a_setup_fee_stands_on_the_first_invoice_only(store, closer, clock):
    await opened_account(store, terms=TERMS, basic=priced(setup="7"))
    await closer.close("acme")
    clock.set("2026-12-01T00:00")
    assert totals(await closer.close("acme")) == [(2, "2026-11", 3000)]


async def test_months_are_closed_one_after_the_other(store, closer, clock):
    await opened_account(store, terms=TERMS, basic=priced())
    with pytest.raises(NotNext, match="2026-11: not next, expected 2026-10"):
        await closer.close("acme", NOVEMBER)
    await closer.close("acme", OCTOBER)
    with pytest.raises(StillOpen, match="2026-11: not over"):
        await closer.close("acme", NOVEMBER)
    clock.set("2027-01-01T00:00")
    with pytest.raises(NotNext, match="2026-12: not next, expected 2026-11"):
        await closer.close("acme", DECEMBER)


async def test_a_month_before_the_first_may_be_closed_while_none_is(store, uses, closer):
    await opened_account(store, terms=TERMS, basic=priced())
    uses.add("2026-08-15T00:00", 100)
    assert totals(await closer.close("acme", Month(2026, 8))) == [(1, "2026-08", 3100)]
    assert totals(await closer.close("acme")) == [(2, "2026-09", 3000)]


async def test_a_consumer_that_was_never_seen_has_no_invoice(closer):
    with pytest.raises(UnknownAccount, match="'nobody'"):
        await closer.close("nobody")


async def test_a_month_in_which_nothing_costs_is_closed_without_an_invoice(store, uses, closer):
    await opened_account(store, terms=TERMS, basic=None)
    uses.add("2026-10-15T00:00", 100)
    assert await closer.close("acme") == []
    assert (await closer.books.account("acme"))[0].closed == OCTOBER


async def test_each_currency_has_an_invoice_of_its_own(store, closer):
    terms = (*TERMS, Term("maps", "", "dear", EVER))
    dear = Price(currency="JPY", recurring=Recurring(amount="500"))
    await opened_account(store, terms=terms, basic=priced(), dear=dear)
    found = await closer.close("acme")
    assert [(each.currency, each.money(each.total)) for each in found] == [
        ("EUR", "30.00"),
        ("JPY", "500"),
    ]


async def test_a_zone_that_changes_in_mid_period_bills_every_use_once(store, uses, closer, clock):
    await opened_account(store, terms=TERMS, zone="Asia/Tokyo", basic=priced("1", "0"))
    for hour in range(0, 24):
        uses.add(f"2026-10-31T{hour:02}:30", 1)
        uses.add(f"2026-11-01T{hour:02}:30", 1)
    october = await closer.close("acme")
    account, _ = await closer.books.account("acme")
    moved = replace(account, zone="America/New_York")
    await store.put(ACCOUNTS + "acme", accounts.body(moved))
    clock.set("2026-12-02T00:00")
    november = await closer.close("acme")
    billed = [sum(line.charge.quantity for line in each.lines) for each in october + november]
    assert billed == [15, 33]
    assert october[0].ends_ns == november[0].begins_ns == utc("2026-10-31T15:00")
    assert november[0].ends_ns == utc("2026-12-01T05:00")


# Numbers


async def test_numbers_of_many_consumers_have_no_gaps(store, closer):
    for place in range(5):
        await opened_account(store, consumer=f"c{place}", terms=TERMS, basic=priced())
    for place in (3, 1, 4, 0, 2):
        await closer.close(f"c{place}")
    found = await closer.books.invoices()
    assert [invoice.number for invoice in found] == [1, 2, 3, 4, 5]
    assert [invoice.consumer for invoice in found] == ["c3", "c1", "c4", "c0", "c2"]


async def test_two_that_close_at_once_end_with_the_same_invoice(store, uses, clock):
    for name in ("acme", "beta"):
        await opened_account(store, consumer=name, terms=TERMS, basic=priced())
    closers = [Closer(store, uses, clock) for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(each.close(name, OCTOBER))
            for each in closers
            for name in ("acme", "beta")
        ]
    numbers = {task.result()[0].consumer: task.result()[0].number for task in tasks}
    assert sorted(numbers.values()) == [1, 2]
    assert len(await store.list(INVOICES)) == 2


@pytest.mark.parametrize("done_first", [False, True])
async def test_a_closer_that_dies_at_any_write_leaves_what_the_next_one_ends(clock, done_first):
    whole = await _closed_with_a_death_at(None, clock, done_first=done_first)
    for step in count():
        after = await _closed_with_a_death_at(step, clock, done_first=done_first)
        if after is None:
            break
        assert after == whole, f"died at write {step}"
    assert step > 4


async def _closed_with_a_death_at(step, clock, *, done_first):
    store, uses = DyingStore(clock), Uses()
    await opened_account(store, terms=TERMS, basic=priced(setup="5"))
    await opened_account(store, consumer="beta", terms=TERMS, basic=priced(setup="5"))
    closer = Closer(store, uses, clock)
    await closer.ledger.add("acme", Entry("c1", 1, "EUR", 1000, "paid", "ops"))
    await closer.close("beta")
    uses.add("2026-10-10T00:00", 500)
    store.left, store.done_first = step, done_first
    try:
        await closer.close("acme")
        if step is not None:
            return None
    except StoreFailed:
        store.left = None
        closer = Closer(store, uses, clock)
        await closer.close("acme", OCTOBER)
    books = closer.books
    account, _ = await books.account("acme")
    return (
        [invoice.document() for invoice in await books.invoices()],
        [invoice.document() for invoice in await books.invoices("acme")],
        await closer.ledger.balances("acme"),
        (account.closed, account.through_ns, account.setups),
    )


async def test_what_is_used_late_after_a_death_waits_for_the_next_invoice(store, uses, clock):
    await opened_account(store, terms=TERMS, basic=priced())
    store.left = 1
    with pytest.raises(StoreFailed):
        await Closer(store, uses, clock).close("acme")
    store.left = None
    uses.add("2026-10-10T00:00", 10**6)
    assert totals(await Closer(store, uses, clock).close("acme")) == [(1, "2026-10", 3000)]


# Late usage


async def test_late_usage_is_a_new_line_in_the_next_invoice_and_is_billed_once(
    store, uses, closer, clock
):
    await opened_account(store, terms=TERMS, basic=priced(fee="0"))
    uses.add("2026-10-10T00:00", 500)
    october = await closer.close("acme")
    uses.add("2026-10-20T00:00", 120)
    clock.set("2026-12-01T00:00")
    november = await closer.close("acme")
    assert [
        (line.charge.kind, line.charge.text, line.charge.amount) for line in november[0].lines
    ] == [("correction", "October 2026, recorded late: 120 requests", 120)]
    uses.add("2026-10-21T00:00", 30)
    uses.add("2026-11-21T00:00", 1)
    clock.set("2027-01-01T00:00")
    december = await closer.close("acme")
    assert sorted(line.charge.text for line in december[0].lines) == [
        "November 2026, recorded late: 1 requests",
        "October 2026, recorded late: 30 requests",
    ]
    assert sum(each.total for each in october + november + december) == 651
    assert await closer.books.invoice(1) == october[0]


async def test_late_usage_is_rated_by_the_price_that_its_month_was_closed_by(
    store, uses, closer, clock
):
    await opened_account(store, terms=TERMS, basic=priced(fee="0"))
    uses.add("2026-10-10T00:00", 500)
    await closer.close("acme")
    account, _ = await closer.books.account("acme")
    await opened_account(store, terms=TERMS, basic=priced("99", "0"))
    await store.put(ACCOUNTS + "acme", accounts.body(account))
    uses.add("2026-10-20T00:00", 100)
    clock.set("2026-12-01T00:00")
    assert totals(await closer.close("acme")) == [(2, "2026-11", 100)]


async def test_late_usage_under_a_plan_new_to_its_month_has_the_price_of_that_month(
    store, uses, closer, clock
):
    await opened_account(store, terms=TERMS, basic=priced(fee="0"))
    versions = Version(0, priced("1", "0")), Version(utc("2026-10-20T00:00"), priced("9", "0"))
    await store.put(PRICES + "other", accounts.body(Known(versions)))
    assert await closer.close("acme") == []
    uses.add("2026-10-25T00:00", 3, plan="other")
    clock.set("2026-12-01T00:00")
    assert totals(await closer.close("acme")) == [(1, "2026-11", 300)]


async def test_usage_that_vanishes_gives_nothing_back(store, uses, closer, clock, caplog):
    await opened_account(store, terms=TERMS, basic=priced(fee="0"))
    uses.add("2026-10-10T00:00", 500)
    await closer.close("acme")
    uses.uses.clear()
    clock.set("2026-12-01T00:00")
    assert await closer.close("acme") == []
    assert "usage of a closed period fell" in caplog.text


# Credit


async def credited(closer, amount, each="top-up", consumer="acme"):
    return await closer.ledger.add(consumer, Entry(each, 1, "EUR", amount, "paid", "ops"))


async def test_an_invoice_is_paid_by_credit_as_far_as_it_goes(store, closer, clock):
    await opened_account(store, terms=TERMS, basic=priced())
    await credited(closer, 4500)
    october = await closer.close("acme")
    assert [(each.total, each.credit, each.due) for each in october] == [(3000, 3000, 0)]
    assert await closer.ledger.balances("acme") == {"EUR": 1500}
    clock.set("2026-12-01T00:00")
    november = await closer.close("acme")
    assert [(each.total, each.credit, each.due) for each in november] == [(3000, 1500, 1500)]
    assert await closer.ledger.balances("acme") == {"EUR": 0}


async def test_an_invoice_below_nothing_becomes_credit(store, uses, closer, clock):
    tiers = [Tier(up_to=1000, unit="1"), Tier(unit="0.5")]
    volume = Price(currency="EUR", usage=[UsagePrice(model="volume", tiers=tiers)])
    await opened_account(store, terms=TERMS, basic=volume)
    uses.add("2026-10-10T00:00", 999)
    await closer.close("acme")
    uses.add("2026-10-10T00:00", 2)
    clock.set("2026-12-01T00:00")
    [november] = await closer.close("acme")
    assert (november.total, november.credit, november.due) == (-49850, -49850, 0)
    assert await closer.ledger.balances("acme") == {"EUR": 49850}


async def test_credit_with_the_same_id_is_counted_once(store, closer):
    assert await credited(closer, 500)
    assert not await credited(closer, 500)
    assert await closer.ledger.balances("acme") == {"EUR": 500}


# Prepaid


async def stopped(store, closer, clock):
    rates = await closer.books.rates()
    await Estimator(store, closer).look(await closer.books.accounts(), rates, clock.unix_ns())
    view = await store.list("billing/stopped/")
    return {key.rsplit("/", 1)[-1]: record.body for key, record in view.items()}


async def test_a_prepaid_product_stops_when_its_credit_is_used_up(store, uses, closer, clock):
    terms = (Term("api", "", "basic", EVER), Term("maps", "", "later", EVER))
    await opened_account(
        store, terms=terms, basic=priced("0.01", "0", prepaid=True), later=priced(), first="2026-11"
    )
    await credited(closer, 500)
    uses.add("2026-11-01T00:30", 499)
    assert await stopped(store, closer, clock) == {}
    uses.add("2026-11-01T00:31", 1)
    assert await stopped(store, closer, clock) == {"acme": b'["api"]'}
    await credited(closer, 1, "again")
    assert await stopped(store, closer, clock) == {"acme": b"[]"}


async def test_a_month_that_is_over_and_not_closed_still_draws_on_credit(
    store, uses, closer, clock
):
    await opened_account(store, terms=TERMS, basic=priced("0.01", "0", prepaid=True))
    await credited(closer, 500)
    uses.add("2026-10-31T23:59", 500)
    assert await stopped(store, closer, clock) == {"acme": b'["api"]'}
    assert totals(await closer.close("acme")) == [(1, "2026-10", 500)]
    assert await stopped(store, closer, clock) == {"acme": b'["api"]'}


async def test_a_fee_that_credit_does_not_cover_stops(store, closer, clock):
    await opened_account(store, terms=TERMS, basic=priced("0", "30", prepaid=True), first="2026-11")
    await credited(closer, 2999)
    assert await stopped(store, closer, clock) == {"acme": b'["api"]'}
    await credited(closer, 1, "again")
    assert await stopped(store, closer, clock) == {"acme": b"[]"}


async def test_what_costs_nothing_needs_no_credit(store, uses, closer, clock):
    free = UsagePrice(model="perUnit", unit="1", included=10)
    price = Price(currency="EUR", usage=[free], prepaid=True)
    await opened_account(store, terms=TERMS, basic=price, first="2026-11")
    uses.add("2026-11-01T00:01", 9)
    assert await stopped(store, closer, clock) == {}
    uses.add("2026-11-01T00:02", 1)
    assert await stopped(store, closer, clock) == {"acme": b'["api"]'}


async def test_a_trial_needs_no_credit_until_it_ends(store, uses, closer, clock):
    terms = (Term("api", "", "basic", date(2026, 10, 30)),)
    trial = priced("1", "0", prepaid=True, trial_days=3)
    await opened_account(store, terms=terms, basic=trial, first="2026-11")
    uses.add("2026-11-01T00:01", 100)
    assert await stopped(store, closer, clock) == {}
    clock.set("2026-11-02T00:00")
    assert await stopped(store, closer, clock) == {"acme": b'["api"]'}


async def test_every_process_follows_who_is_stopped(store, closer, clock):
    balances = Balances(store)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(balances.follow())
        async with asyncio.timeout(10):
            await balances.loaded.wait()
        assert not balances.stopped("acme", "api")
        await store.put("billing/stopped/acme", b'["api"]')
        async with asyncio.timeout(10):
            while not balances.stopped("acme", "api"):
                await asyncio.sleep(0)
        assert not balances.stopped("acme", "maps")
        task.cancel()


# Trials in what was used


async def test_what_falls_into_a_trial_is_not_billed(store, uses, closer):
    terms = (Term("api", "", "basic", date(2026, 10, 10)),)
    await opened_account(store, terms=terms, basic=priced("0.01", "31", trial_days=10))
    uses.add("2026-10-19T23:59", 1000)
    uses.add("2026-10-20T00:00", 5)
    [october] = await closer.close("acme")
    assert [(line.charge.kind, line.charge.amount) for line in october.lines] == [
        ("recurring", 1200),
        ("usage", 5),
    ]


# Previews


async def test_a_preview_says_what_past_months_would_have_cost(store, uses, closer, clock):
    pro = priced("0.001", "90", setup="500", trial_days=30)
    await opened_account(store, terms=TERMS, basic=priced(), pro=pro)
    uses.add("2026-10-10T00:00", 10_000)
    await closer.close("acme")
    clock.set("2026-11-20T00:00")
    uses.add("2026-11-10T00:00", 1000)
    found = await Desk(store, clock, uses).preview("acme", "api", "pro", months=2)
    assert [(str(each.month), each.now, each.then) for each in found] == [
        ("2026-10", {"EUR": 13_000}, {"EUR": 10_000}),
        ("2026-11", {"EUR": 4_000}, {"EUR": 9_100}),
    ]


async def test_parties_get_their_share_of_what_their_product_earns(store, uses, closer):
    price = priced(shares=[{"party": "author", "percent": "33.33"}])
    await opened_account(store, terms=TERMS, basic=price)
    uses.add("2026-10-10T00:00", 1)
    [october] = await closer.close("acme")
    assert [(party.party, party.amount) for party in october.parties] == [("author", 1000)]
    assert "parties" not in october.document()


async def test_many_prepaid_consumers_are_told_apart(store, uses, closer, clock):
    for place in range(6):
        name = f"c{place}"
        plan = priced("0.01", "0", prepaid=True)
        await opened_account(store, consumer=name, terms=TERMS, basic=plan, first="2026-11")
        await credited(closer, 100, consumer=name)
        uses.add("2026-11-01T00:30", 98 + place, consumer=name)
    found = await stopped(store, closer, clock)
    assert found == {f"c{place}": b'["api"]' for place in range(2, 6)}
