"""A price that cannot be meant is refused where it stands in the file."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.config import assemble
from wherry.errors import ConfigError
from wherry.model.pricing import Tier, UsagePrice

PLAN = """apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: gold}
spec:
  price:
    currency: EUR
    usage:
    - meter: requests
      """


def problems(text):
    with pytest.raises(ConfigError) as refused:
        assemble({Path("plan.yaml"): text})
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        (
            'model: graduated\n      tiers: [{upTo: 10, unit: "1"}, {upTo: 10, unit: "2"}, {}]',
            "tier 2: upTo 10 after 10, expected tiers that rise and do not overlap",
        ),
        (
            'model: volume\n      tiers: [{upTo: 100, unit: "1"}, {upTo: 50, unit: "2"}, {}]',
            "tier 2: upTo 50 after 100, expected tiers that rise and do not overlap",
        ),
        ('model: graduated\n      tiers: [{upTo: 10, unit: "1"}]', "tier 1: upTo 10, expected"),
        ('model: graduated\n      tiers: [{unit: "1"}, {unit: "2"}]', "tier 1: upTo None"),
        ('model: perUnit\n      unit: "-0.01"', "-0.01"),
        ('model: perUnit\n      unit: "1e3"', "1e3"),
        ('model: perUnit\n      unit: "NaN"', "NaN"),
        ("model: perUnit\n      unit: 0.01", "0.01"),
        ('model: bundle\n      size: 0\n      amount: "1"', "0"),
        ('model: flat\n      amount: "1"\n      included: -1', "-1"),
    ],
)
def test_a_usage_price_that_cannot_be_meant_is_refused_with_its_place(usage, found):
    [problem] = problems(PLAN + usage)
    assert problem.startswith("plan.yaml:")
    assert int(problem.split(":")[1]) >= 5
    assert found in problem


@pytest.mark.parametrize(
    ("price", "found"),
    [
        ("{currency: XXQ}", "XXQ"),
        ('{currency: EUR, setup: "-1"}', "-1"),
        ("{currency: EUR, trialDays: -1}", "-1"),
        (
            '{currency: EUR, shares: [{party: a, percent: "60"}, {party: b, percent: "40.01"}]}',
            "shares of 100.01 percent",
        ),
        (
            '{currency: EUR, usage: [{model: flat, amount: "1"}, {model: flat, amount: "2"}]}',
            "'requests' a second time",
        ),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused_with_its_place(price, found):
    text = PLAN.partition("  price:")[0] + f"  price: {price}\n"
    [problem] = problems(text)
    assert problem.startswith("plan.yaml:5")
    assert found in problem


@given(st.lists(st.integers(1, 40), max_size=6))
def test_tiers_are_taken_when_they_rise_and_only_then(bounds):
    tiers = [*(Tier(up_to=bound) for bound in bounds), Tier()]
    rise = all(one < other for one, other in pairwise(bounds))
    try:
        UsagePrice(model="graduated", tiers=tiers)
    except ValueError:
        assert not rise
    else:
        assert rise
