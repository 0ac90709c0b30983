"""A price makes of a month's usage what a person would work out by hand, to the last cent."""

from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.money import BadAmount, UnknownCurrency, minor, parts, rounded, spelled
from gateway.billing.periods import Days
from gateway.billing.rating import WHOLE, NegativeUsage, rate, shared, worth
from wherry.model.currency import EXPONENT
from wherry.model.pricing import Price, Recurring, Share, Tier, UsagePrice

EXACT = Context(prec=200)
PRICES = st.decimals(0, 1000, places=6).map(lambda d: format(d.normalize(), "f"))


def price(*usage, currency="EUR", **more):
    return Price(currency=currency, usage=list(usage), **more)


def costs(found):
    return [(charge.text, charge.quantity, charge.amount) for charge in found]


TIERS = [Tier(up_to=100, unit="0.10"), Tier(up_to=1000, unit="0.05", flat="2"), Tier(unit="0.01")]


# Models


def test_a_flat_price_is_paid_once_any_unit_is_used():
    flat = price(UsagePrice(model="flat", amount="9.90"))
    assert costs(rate(flat, {"requests": 12})) == [("requests, flat for 12", 1, 990)]
    assert rate(flat, {"requests": 0}) == []
    assert rate(flat, {}) == []


def test_a_unit_price_is_rounded_once_for_the_line_and_not_for_each_unit():
    each = price(UsagePrice(model="perUnit", unit="0.0025"))
    assert costs(rate(each, {"requests": 3001})) == [("requests", 3001, 750)]


def test_half_a_cent_goes_up():
    assert rate(price(UsagePrice(model="perUnit", unit="0.005")), {"requests": 1})[0].amount == 1


def test_graduated_tiers_price_each_unit_by_its_own_tier():
    found = rate(price(UsagePrice(model="graduated", tiers=TIERS)), {"requests": 1500})
    assert costs(found) == [
        ("requests, units 1 to 100", 100, 1000),
        ("requests, units 101 to 1,000", 900, 4500),
        ("requests, units 101 to 1,000, tier fee", 1, 200),
        ("requests, units 1,001 to 1,500", 500, 500),
    ]


def test_the_last_unit_of_a_tier_belongs_to_it():
    graduated = price(UsagePrice(model="graduated", tiers=TIERS))
    assert costs(rate(graduated, {"requests": 100})) == [("requests, units 1 to 100", 100, 1000)]
    assert len(rate(graduated, {"requests": 101})) == 3


def test_a_volume_price_is_that_of_the_tier_that_the_total_falls_in():
    volume = price(UsagePrice(model="volume", tiers=TIERS))
    assert costs(rate(volume, {"requests": 100})) == [("requests, volume of 100", 100, 1000)]
    assert costs(rate(volume, {"requests": 1500})) == [("requests, volume of 1,500", 1500, 1500)]


def test_a_started_bundle_is_paid_whole():
    bundle = price(UsagePrice(model="bundle", amount="10", size=1000))
    for units, bundles in ((1, 1), (1000, 1), (1001, 2)):
        assert costs(rate(bundle, {"requests": units})) == [
            ("requests, bundles of 1,000", bundles, bundles * 1000)
        ]


def test_beyond_one_bundle_each_unit_has_the_overage_price():
    bundle = price(UsagePrice(model="bundle", amount="10", size=1000, overage="0.02"))
    assert costs(rate(bundle, {"requests": 1200})) == [
        ("requests, bundle of 1,000", 1, 1000),
        ("requests, beyond the bundle", 200, 400),
    ]


def test_included_units_are_free_and_stand_on_the_invoice():
    free = price(UsagePrice(model="perUnit", unit="0.01", included=1000))
    assert costs(rate(free, {"requests": 400})) == [("requests, included", 400, 0)]
    assert costs(rate(free, {"requests": 1100})) == [
        ("requests, included", 1000, 0),
        ("requests", 100, 100),
    ]


def test_included_units_fill_the_first_places_of_tiers():
    tiers = price(UsagePrice(model="graduated", tiers=TIERS, included=150))
    assert costs(rate(tiers, {"requests": 200}))[1] == ("requests, units 151 to 200", 50, 250)


def test_meters_without_a_price_cost_nothing():
    assert rate(price(UsagePrice(model="perUnit", unit="1")), {"tokens": 10**9}) == []


def test_less_than_nothing_is_refused_with_both_numbers():
    with pytest.raises(NegativeUsage, match="'requests': -1, expected at least 0"):
        rate(price(), {"requests": -1})


# Fees


def test_the_minimum_is_reached_by_fees_and_usage_but_not_by_the_setup():
    plan = price(
        UsagePrice(model="perUnit", unit="0.01"),
        setup="50",
        recurring=Recurring(amount="5"),
        minimum="20",
    )
    found = rate(plan, {"requests": 300}, setup=True)
    assert [(charge.kind, charge.amount) for charge in found] == [
        ("setup", 5000),
        ("recurring", 500),
        ("usage", 300),
        ("minimum", 1200),
    ]


def test_part_of_a_month_has_its_days_share_of_fee_and_minimum():
    plan = price(recurring=Recurring(amount="30"), minimum="60")
    found = rate(plan, {}, days=Days(((0, 10),), 30))
    assert [(charge.kind, charge.amount) for charge in found] == [
        ("recurring", 1000),
        ("minimum", 1000),
    ]


def test_a_fee_that_is_not_prorated_is_whole_for_one_day():
    plan = price(recurring=Recurring(amount="30", prorate=False))
    assert rate(plan, {}, days=Days(((29, 30),), 30))[0].amount == 3000
    assert rate(plan, {}, days=Days((), 30)) == []


def test_a_yen_has_no_decimals_and_a_dinar_three():
    per = UsagePrice(model="perUnit", unit="0.4567")
    assert rate(price(per, currency="JPY"), {"requests": 10})[0].amount == 5
    assert rate(price(per, currency="KWD"), {"requests": 10})[0].amount == 4567
    assert (spelled(5, "JPY"), spelled(4567, "KWD"), spelled(-5, "EUR")) == ("5", "4.567", "-0.05")


# Properties


@st.composite
def tiers(draw):
    bounds = sorted(draw(st.sets(st.integers(1, 10_000), max_size=6)))
    made = [Tier(up_to=bound, unit=draw(PRICES), flat=draw(PRICES)) for bound in bounds]
    return [*made, Tier(unit=draw(PRICES), flat=draw(PRICES))]


@given(tiers(), st.integers(0, 20_000), st.integers(0, 12_000))
def test_tiers_hold_every_unit_exactly_once(tiers, units, included):
    plan = price(UsagePrice(model="graduated", tiers=tiers, included=included))
    found = rate(plan, {"requests": units})
    assert units == sum(c.quantity for c in found if not c.text.endswith("tier fee"))


@given(tiers(), st.integers(0, 20_000), st.integers(0, 500), st.integers(0, 12_000))
def test_more_use_of_graduated_tiers_never_costs_less(tiers, units, more, included):
    plan = price(UsagePrice(model="graduated", tiers=tiers, included=included))
    fewer, all_ = worth(plan, {"requests": units}), worth(plan, {"requests": units + more})
    assert fewer <= all_


@given(tiers(), st.integers(1, 20_000))
def test_graduated_tiers_equal_the_sum_of_each_unit_looked_up_alone(tiers, units):
    plan = price(
        UsagePrice(model="graduated", tiers=[Tier(up_to=t.up_to, unit=t.unit) for t in tiers])
    )
    by_hand = Fraction(0)
    for unit in range(1, units + 1):
        tier = next(t for t in tiers if t.up_to is None or unit <= t.up_to)
        by_hand += Fraction(tier.unit)
    assert worth(plan, {"requests": units}) == by_hand


@given(PRICES, st.integers(0, 10**15), st.sampled_from(sorted(EXPONENT)))
def test_a_line_is_what_exact_decimals_make_of_it(unit, units, currency):
    plan = price(UsagePrice(model="perUnit", unit=unit), currency=currency)
    exact = EXACT.multiply(Decimal(unit), Decimal(units))
    wanted = exact.quantize(Decimal(1).scaleb(-EXPONENT[currency]), ROUND_HALF_UP, EXACT)
    found = sum(charge.amount for charge in rate(plan, {"requests": units}))
    assert Decimal(spelled(found, currency)) == wanted


@given(
    st.sampled_from(["flat", "perUnit", "graduated", "volume", "bundle", "overage"]),
    tiers(),
    PRICES,
    st.integers(0, 20_000),
    st.integers(1, 12_000),
)
def test_quantity_times_unit_is_the_amount_of_every_line(model, tiers, unit, units, size):
    made = {
        "flat": UsagePrice(model="flat", amount=unit),
        "perUnit": UsagePrice(model="perUnit", unit=unit, included=size),
        "graduated": UsagePrice(model="graduated", tiers=tiers),
        "volume": UsagePrice(model="volume", tiers=tiers),
        "bundle": UsagePrice(model="bundle", amount=unit, size=size),
        "overage": UsagePrice(model="bundle", amount=unit, size=size, overage=unit),
    }[model]
    for charge in rate(price(made), {"requests": units}):
        assert charge.amount == rounded(charge.quantity * Fraction(charge.unit), "EUR")


@given(PRICES, st.integers(28, 31), st.lists(st.integers(1, 30), max_size=5), st.data())
def test_the_parts_of_a_month_add_up_to_the_month(amount, of, cuts, data):
    plan = price(recurring=Recurring(amount=amount))
    at = sorted({0, of, *(cut for cut in cuts if cut < of)})
    whole = sum(charge.amount for charge in rate(plan, {}, days=WHOLE))
    pieces = [
        sum(charge.amount for charge in rate(plan, {}, days=Days(((begin, end),), of)))
        for begin, end in pairwise(at)
    ]
    assert sum(pieces) == whole


@given(st.integers(0, 10**12), st.lists(st.integers(0, 1000), max_size=8))
def test_shares_never_exceed_what_is_shared(amount, weights):
    scale = max(1000, sum(weights))
    shares = [
        Share(party=f"p{place}", percent=f"{weight * 100 // scale}.{weight % 10}")
        for place, weight in enumerate(weights)
        if weight * 100 // scale < 100
    ]
    if sum(Fraction(share.percent) for share in shares) > 100:
        return
    found = shared(shares, amount)
    assert sum(part for _, part in found) <= amount
    for share, (_, part) in zip(shares, found, strict=True):
        assert abs(part - amount * Fraction(share.percent) / 100) <= 1


def test_shares_of_a_hundred_percent_leave_nothing():
    halves = [Share(party="one", percent="50"), Share(party="two", percent="50")]
    assert shared(halves, 1) == [("one", 1), ("two", 0)]
    assert sum(part for _, part in shared(halves, 333)) == 333


@given(st.fractions(0, 10**9), st.lists(st.fractions(0, 1), max_size=6))
def test_neighbouring_pieces_add_up_to_what_they_are_together(amount, inner):
    cuts = [Fraction(0), *sorted(inner), Fraction(1)]
    assert sum(parts(amount, cuts, "EUR")) == rounded(amount, "EUR")


# Money as text


@given(st.integers(-(10**17), 10**17), st.sampled_from(sorted(EXPONENT)))
def test_money_reads_back_as_it_is_spelled(amount, currency):
    if abs(amount) < 10 ** (15 + EXPONENT[currency]):
        assert minor(spelled(amount, currency), currency) == amount


@pytest.mark.parametrize("text", ["", "1,5", "1.005", "1e3", "+1", "01", "1.", ".5", "NaN", "٣"])
def test_what_is_no_amount_is_refused_with_the_currency(text):
    with pytest.raises(BadAmount, match="as EUR has"):
        minor(text, "EUR")


def test_an_unknown_currency_is_refused():
    with pytest.raises(UnknownCurrency, match="'XXX'"):
        minor("1", "XXX")
