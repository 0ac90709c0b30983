"""Breakers and retries."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.traffic.breaker import Breaker, Breakers, Permit
from gateway.traffic.retries import FEW, Budget, Repeating, wait
from wherry.model.traffic import Breaker as Model
from wherry.model.traffic import Retries


class BreakerMachine(RuleBasedStateMachine):
    """A breaker beside what its description says, counted the slow way."""

    @initialize(failures=st.integers(1, 4))
    def start(self, failures: int):
        self.breaker = Breaker(failures, 10.0)
        self.failures = failures
        self.now = 0.0
        self.in_row = 0
        self.open_until: float | None = None
        self.current: list[Permit] = []
        self.old: list[Permit] = []
        self.trial: Permit | None = None
        self.trial_ends = 0.0

    def turned(self):
        self.old += self.current
        self.current.clear()

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float):
        self.now += seconds

    @rule()
    def a_request_comes(self):
        permit = self.breaker.admit(self.now)
        if self.open_until is None:
            assert permit is not None
            assert not permit.trial
            self.current.append(permit)
        elif self.now < self.open_until or (self.trial and self.now < self.trial_ends):
            assert permit is None
        else:
            assert permit is not None
            assert permit.trial
            if self.trial:
                self.old.append(self.trial)
            self.trial, self.trial_ends = permit, self.now + 10.0

    @precondition(lambda self: self.current)
    @rule(good=st.sampled_from([True, False, None]), data=st.data())
    def a_request_ends(self, *, good: bool | None, data: st.DataObject):
        permit = self.current.pop(data.draw(st.integers(0, len(self.current) - 1)))
        self.breaker.ended(permit, good=good, now=self.now)
        if good:
            self.in_row = 0
        elif good is False:
            self.in_row += 1
            if self.in_row == self.failures:
                self.in_row, self.open_until = 0, self.now + 10.0
                self.turned()

    @precondition(lambda self: self.old)
    @rule(good=st.sampled_from([True, False, None]))
    def a_request_of_before_ends(self, *, good: bool | None):
        self.breaker.ended(self.old.pop(), good=good, now=self.now)

    @precondition(lambda self: self.trial)
    @rule(good=st.sampled_from([True, False, None]))
    def the_trial_ends(self, *, good: bool | None):
        assert self.trial
        self.breaker.ended(self.trial, good=good, now=self.now)
        self.trial = None
        if good:
            self.open_until = None
        elif good is False:
            self.open_until = self.now + 10.0

    @invariant()
    def it_is_closed_or_not(self):
        if hasattr(self, "breaker"):
            assert self.breaker.closed == (self.open_until is None)
            assert self.breaker.retry_after(self.now) <= 10.001


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBreaker = BreakerMachine.TestCase


def test_breakers_outlive_the_catalogue_and_are_bounded():
    breakers = Breakers(most=2)
    first = breakers.of("a", Model())
    assert breakers.of("a", Model()) is first
    assert breakers.of("a", Model(failures=3)) is not first
    breakers.of("b", Model())
    breakers.of("c", Model())
    assert breakers.of("a", Model()) is not first


def test_only_what_may_be_repeated_is_tried_again():
    again = Repeating.of(Retries()).again
    assert again("GET", "connect", 1)
    assert again("GET", 503, 2)
    assert not again("GET", 503, 3)
    assert not again("GET", 502, 1)
    assert not again("POST", "connect", 1)
    assert not again("GET", 503, 1, retry_after="30")


@given(
    percent=st.integers(0, 100),
    steps=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200),
)
def test_retries_never_go_over_the_budget_of_the_window(
    percent: int, steps: list[tuple[float, bool]]
):
    budget, now = Budget(percent), 0.0
    requests, retries = list[int](), list[int]()
    for passed, retry in steps:
        now += passed
        if not retry:
            budget.request(now)
            requests.append(int(now))
        elif budget.take(now):
            retries.append(int(now))
            seen = sum(at > int(now) - 10 for at in requests)
            sent = sum(at > int(now) - 10 for at in retries)
            assert percent
            assert sent <= max(FEW, seen * percent // 100)
    if not percent:
        assert not retries


def test_a_fifth_of_a_hundred_requests_may_be_retried_and_old_ones_are_forgotten():
    budget = Budget(20)
    for _ in range(100):
        budget.request(5.0)
    assert sum(budget.take(6.0) for _ in range(50)) == 20
    assert sum(budget.take(16.5) for _ in range(50)) == FEW


def test_waits_double_up_to_a_bound():
    assert [wait(tried, 1.0) for tried in (1, 2, 3, 4, 5)] == [0.025, 0.05, 0.1, 0.2, 0.25]
    assert wait(3, 0.0) == 0.0


def test_a_budget_of_nothing_allows_no_retry():
    budget = Budget(0)
    budget.request(1.0)
    assert not budget.take(1.0)
