"""How many instances a version's calls ask for."""

import itertools
import random
from collections import deque

import pytest

from faas.running.demand import WINDOW, Demand


def steady(rate: float, run: float, start: float) -> tuple[Demand, float]:
    """Return what was seen of calls that came evenly for a long time, and when that was."""
    demand, now = Demand(), 0.0
    for number in range(round(rate * WINDOW * 5)):
        now = number / rate
        demand.arrived(now)
    demand.ran(run)
    demand.started(start)
    return demand, now


def test_nothing_is_started_ahead_of_a_version_that_is_hardly_called():
    demand = Demand()
    demand.arrived(0.0)
    assert demand.target(0.0) == 0


def test_one_caller_after_the_other_asks_for_no_crowd_however_long_a_start_takes():
    for start in (0.15, 2.0):
        demand, now = steady(rate=250.0, run=0.0016, start=start)
        assert 1 <= demand.target(now) <= 2 + 250 * start * 0.025 + 1


def test_what_runs_at_once_is_kept_with_a_margin():
    demand, now = steady(rate=20.0, run=0.25, start=0.2)
    assert 8 <= demand.target(now) <= 11


def test_it_fades_to_nothing_as_calls_stay_away():
    demand, now = steady(rate=20.0, run=0.25, start=0.2)
    targets = [demand.target(now + later) for later in range(0, 200, 10)]
    assert targets == sorted(targets, reverse=True)
    assert targets[-1] == 0


@pytest.mark.parametrize(("rate", "run", "start"), [(20.0, 0.25, 0.2), (4.0, 0.5, 2.0)])
def test_of_calls_that_come_at_random_few_find_no_instance(rate, run, start):
    dice = random.Random(7)  # noqa: S311 - arrivals, not secrets
    demand, now, busy = Demand(), 0.0, deque[float]()
    demand.ran(run)
    demand.started(start)
    missed = 0
    for number in itertools.count():
        now += dice.expovariate(rate)
        while busy and busy[0] <= now:
            busy.popleft()
        if now > 3 * WINDOW:
            missed += len(busy) >= demand.target(now)
        demand.arrived(now)
        busy.append(now + run)
        if number == 20_000:
            break
    assert missed / number < 0.05
