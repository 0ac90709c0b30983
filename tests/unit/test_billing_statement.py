"""A consumer's month: plans that change in it, trials, apps, and usage that came late."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.periods import Month, midnight_ns
from gateway.billing.statement import (
    UnknownPlan,
    Used,
    by_subscription,
    corrections,
    statement,
)
from gateway.billing.terms import Subscribed, Term, days, observed, trial_end
from wherry.model.pricing import Price, Recurring, Tier, UsagePrice

NOVEMBER = Month(2026, 11)
EVER = date(2026, 1, 1)


def day(number, month=11):
    return date(2026, month, number)


def priced(unit="0.01", fee="30", *, included=0, **more):
    usage = [UsagePrice(model="perUnit", unit=unit, included=included)]
    return Price(currency="EUR", recurring=Recurring(amount=fee), usage=usage, **more)


def amounts(lines):
    return [(line.plan, line.charge.kind, line.charge.amount) for line in lines]


def used(plan, units, app="default", product="api"):
    return {Used(app, product, plan, "requests"): units}


# Plans that change


def test_a_plan_switched_in_mid_month_rates_each_part_by_its_own_plan_and_days():
    terms = [
        Term("api", "", "basic", EVER, day(11), stands=False),
        Term("api", "", "pro", day(11)),
    ]
    prices = {"basic": priced("0.01", "30"), "pro": priced("0.001", "90")}
    lines = statement(NOVEMBER, terms, prices, used("basic", 1000) | used("pro", 9000))
    assert amounts(lines) == [
        ("basic", "recurring", 1000),
        ("basic", "usage", 1000),
        ("pro", "recurring", 6000),
        ("pro", "usage", 900),
    ]


def test_plans_that_divide_a_month_divide_what_they_include_by_days():
    terms = [
        Term("api", "", "basic", EVER, day(11), stands=False),
        Term("api", "", "pro", day(11)),
    ]
    prices = {plan: priced(fee="0", included=300) for plan in ("basic", "pro")}
    lines = statement(NOVEMBER, terms, prices, used("basic", 500) | used("pro", 500))
    assert [(line.plan, line.charge.quantity) for line in lines] == [
        ("basic", 100),
        ("basic", 400),
        ("pro", 200),
        ("pro", 300),
    ]


def test_who_begins_in_mid_month_has_all_that_the_month_includes():
    terms = [Term("api", "", "basic", day(20))]
    lines = statement(NOVEMBER, terms, {"basic": priced(fee="0", included=300)}, used("basic", 300))
    assert [line.charge.amount for line in lines] == [0]


def test_switching_there_and_back_is_one_subscription_with_one_allowance():
    terms = [
        Term("api", "", "basic", EVER, day(11), stands=False),
        Term("api", "", "pro", day(11), day(21), stands=False),
        Term("api", "", "basic", day(21)),
    ]
    prices = {"basic": priced(fee="30"), "pro": priced(fee="90")}
    lines = statement(NOVEMBER, terms, prices, used("basic", 100))
    assert amounts(lines) == [
        ("basic", "recurring", 2000),
        ("basic", "usage", 100),
        ("pro", "recurring", 3000),
    ]


def test_a_plan_left_on_the_first_still_rates_what_it_let_through():
    terms = [
        Term("api", "", "basic", EVER, day(1), stands=False),
        Term("api", "", "pro", day(1)),
    ]
    tiers = [Tier(up_to=300, unit="0.01"), Tier(unit="1")]
    basic = Price(currency="EUR", usage=[UsagePrice(model="graduated", tiers=tiers)])
    lines = statement(NOVEMBER, terms, {"basic": basic, "pro": priced()}, used("basic", 5))
    assert ("basic", "usage", 5) in amounts(lines)


def test_usage_without_a_subscription_is_rated_by_the_plan_that_let_it_through():
    lines = statement(NOVEMBER, [], {"basic": priced()}, used("basic", 200))
    assert amounts(lines) == [("basic", "usage", 200)]


def test_an_apps_own_subscription_is_rated_apart():
    terms = [Term("api", "", "basic", EVER), Term("api", "mobile", "pro", EVER)]
    prices = {"basic": priced("0.01", "0"), "pro": priced("0.10", "0")}
    counted = used("basic", 10) | used("basic", 20, app="web") | used("pro", 5, app="mobile")
    lines = statement(NOVEMBER, terms, prices, counted)
    assert [(line.app, line.charge.quantity, line.charge.amount) for line in lines] == [
        ("", 30, 30),
        ("mobile", 5, 50),
    ]


def test_a_plan_without_a_price_makes_no_lines_and_an_unknown_one_is_an_error():
    terms = [Term("api", "", "free", EVER)]
    assert statement(NOVEMBER, terms, {"free": None}, used("free", 9)) == []
    with pytest.raises(UnknownPlan, match="'lost'"):
        statement(NOVEMBER, terms, {"free": None}, used("lost", 9))


def test_a_setup_fee_is_due_once_for_a_product_and_plan():
    terms = [Term("api", "", "basic", EVER)]
    prices = {"basic": priced(fee="0", setup="5")}
    first = statement(NOVEMBER, terms, prices, {})
    assert amounts(first) == [("basic", "setup", 500)]
    assert statement(NOVEMBER.after, terms, prices, {}, [("api", "basic")]) == []


def test_a_setup_fee_waits_for_the_end_of_the_trial():
    terms = [Term("api", "", "basic", day(20))]
    prices = {"basic": priced(fee="31", setup="5", trial_days=14)}
    assert statement(NOVEMBER, terms, prices, {}) == []
    assert amounts(statement(NOVEMBER.after, terms, prices, {})) == [
        ("basic", "setup", 500),
        ("basic", "recurring", 2800),
    ]


def test_a_trial_that_ends_in_mid_month_leaves_the_rest_to_pay():
    terms = [Term("api", "", "basic", day(1))]
    lines = statement(NOVEMBER, terms, {"basic": priced(trial_days=10)}, {})
    assert [(line.charge.text, line.charge.amount) for line in lines] == [
        ("Monthly fee, 20 of 30 days", 2000)
    ]


def test_a_change_of_plan_begins_no_new_trial():
    terms = [Term("api", "", "basic", EVER, day(5)), Term("api", "", "pro", day(5))]
    assert trial_end(terms, "api", priced(trial_days=30)) == date(2026, 1, 31)


@pytest.mark.parametrize("begins", [date.min, date.max])
def test_a_subscription_from_the_edge_of_the_calendar_breaks_nothing(begins):
    terms = [Term("api", "", "basic", begins)]
    end = trial_end(terms, "api", priced(trial_days=3650))
    assert midnight_ns(end, "Pacific/Kiritimati") < midnight_ns(end, "Pacific/Niue")
    lines = statement(NOVEMBER, terms, {"basic": priced(trial_days=3650)}, {})
    assert len(lines) == (begins == date.min)


SWITCHES = st.lists(st.tuples(st.integers(2, 30), st.sampled_from("abc")), max_size=6)


@given(SWITCHES, st.integers(0, 10**6).map(lambda cents: f"{cents // 100}.{cents % 100:02}"))
def test_however_often_equal_plans_are_switched_the_fee_is_that_of_the_month(switches, fee):
    begins, plan, terms = EVER, "a", []
    for number, after in sorted(switches, key=lambda switch: switch[0]):
        terms.append(Term("api", "", plan, begins, day(number), stands=False))
        begins, plan = day(number), after
    terms.append(Term("api", "", plan, begins))
    prices = {name: priced(fee=fee) for name in "abc"}
    lines = statement(NOVEMBER, terms, prices, {})
    one = statement(NOVEMBER, [Term("api", "", "a", EVER)], prices, {})
    total = sum(line.charge.amount for line in lines)
    assert total == sum(line.charge.amount for line in one)


# What the configuration shows


def test_a_subscription_that_says_no_beginning_begins_when_it_is_seen():
    assert observed([], [Subscribed("api", "", "basic")], day(7)) == (
        Term("api", "", "basic", day(7)),
    )


def test_a_subscription_that_leaves_the_configuration_ends_that_day():
    held = observed([], [Subscribed("api", "", "basic")], day(7))
    gone = observed(held, [Subscribed("api", "", "pro")], day(12))
    assert gone == (
        Term("api", "", "basic", day(7), day(12), stands=False),
        Term("api", "", "pro", day(12)),
    )
    assert observed(gone, [Subscribed("api", "", "pro")], day(20)) == gone


def test_one_that_comes_and_goes_on_one_day_was_never_there():
    held = observed([], [Subscribed("api", "", "basic")], day(7))
    assert observed(held, [], day(7)) == ()


def test_a_written_end_is_kept_and_may_change():
    written = Subscribed("api", "", "basic", day(1), day(15))
    held = observed([], [written], day(7))
    assert held == (Term("api", "", "basic", day(1), day(15), written=day(1)),)
    [longer] = observed(held, [Subscribed("api", "", "basic", day(1), day(25))], day(8))
    assert longer.ends == day(25)
    [ended] = observed(held, [], day(20))
    assert (ended.ends, ended.stands) == (day(15), False)


def test_a_subscription_that_was_suspended_has_no_fee_for_those_days():
    written = Subscribed("api", "", "basic", day(1))
    held = observed([], [written], day(1))
    held = observed(held, [], day(11))
    for today in (21, 22):
        held = observed(held, [written], day(today))
    assert [(term.begins, term.ends) for term in held] == [(day(1), day(11)), (day(21), None)]
    lines = statement(NOVEMBER, held, {"basic": priced()}, {})
    assert [line.charge.text for line in lines] == ["Monthly fee, 20 of 30 days"]


def test_a_beginning_that_is_written_later_counts_with_what_was_seen():
    held = observed([], [Subscribed("api", "", "basic")], day(10))
    held = observed(held, [Subscribed("api", "", "basic", day(5))], day(15))
    lines = statement(NOVEMBER, held, {"basic": priced()}, {})
    assert [line.charge.text for line in lines] == ["Monthly fee, 26 of 30 days"]


@given(st.lists(st.sets(st.sampled_from("abc")), min_size=30, max_size=30))
def test_days_in_force_are_those_on_which_a_subscription_was_seen(seen):
    history = ()
    for number, plans in enumerate(seen, 1):
        current = [Subscribed("api", "", plan) for plan in plans]
        history = observed(history, current, day(number))
        assert observed(history, current, day(number)) == history
    for plan in "abc":
        found = days(history, ("api", "", plan), NOVEMBER, None)
        in_force = {number for begin, end in found.spans for number in range(begin, end)}
        assert in_force == {number for number, plans in enumerate(seen) if plan in plans}


# Late usage


def _corrected(prices, before, after):
    terms = [Term("api", "", "basic", EVER)]
    late = {key: after[key] - before.get(key, 0) for key in after}
    return list(
        corrections(
            NOVEMBER,
            statement(NOVEMBER, terms, prices, before),
            statement(NOVEMBER, terms, prices, after),
            by_subscription(terms, late),
        )
    )


def test_late_usage_costs_what_it_would_have_cost_in_time():
    lines = _corrected({"basic": priced()}, used("basic", 1000), used("basic", 1120))
    assert [(line.charge.text, line.charge.amount) for line in lines] == [
        ("November 2026, recorded late: 120 requests", 120)
    ]


def test_late_usage_that_reaches_a_cheaper_volume_gives_money_back():
    tiers = [Tier(up_to=1000, unit="1"), Tier(unit="0.5")]
    prices = {"basic": Price(currency="EUR", usage=[UsagePrice(model="volume", tiers=tiers)])}
    lines = _corrected(prices, used("basic", 999), used("basic", 1001))
    assert [line.charge.amount for line in lines] == [50050 - 99900]


def test_late_usage_below_the_minimum_is_said_and_costs_nothing():
    lines = _corrected({"basic": priced(minimum="100")}, used("basic", 10), used("basic", 20))
    assert [line.charge.amount for line in lines] == [0]
