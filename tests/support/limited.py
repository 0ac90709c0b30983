"""Plans, callers and a settable clock for tests of limits."""

from multidict import CIMultiDict

from gateway import path
from gateway.call import Caller, Head
from gateway.limits import Allowance
from gateway.limits.windows import SECOND
from gateway.problem import Refused
from wherry.model.plan import Plan, PlanSpec

START = 1_795_392_000 * SECOND
"""2026-11-23 00:00 UTC."""


class SettableClock:
    """A clock that stands until the test moves it."""

    def __init__(self, ns=START):
        self.ns = ns

    def now(self):
        return self.ns / 1e9

    def unix_ns(self):
        return self.ns

    def forward(self, seconds):
        self.ns += round(seconds * SECOND)


def allowance(name="gold", *, timezone="UTC", begins=None, **spec):
    """Compile a plan of these limits."""
    document = {"api_version": "wherry.dev/v1", "kind": "Plan", "metadata": {"name": name}}
    plan = Plan(**document, spec=PlanSpec(**spec))
    return Allowance.of(plan, timezone=timezone, begins=begins)


def caller(consumer="acme", app="default", credential="ab12"):
    """Return who calls."""
    return Caller(consumer, app, credential, "apiKey")


def head(peer="127.0.0.1"):
    """Return the head of a call."""
    where, _ = path.split("/hello")
    return Head("GET", where, "", "localhost", CIMultiDict(), peer)


class One:
    """One caller under one plan at some `Limits`."""

    def __init__(self, limits, plan, who=None, *, peer="127.0.0.1", product="shop"):
        self.limits, self.plan, self.who = limits, plan, who or caller()
        self.head, self.product = head(peer), product

    def arguments(self, cost=1, operation="get"):
        return (self.plan, self.who, self.head, self.product, operation, cost)

    def now(self, cost=1, operation="get"):
        """Call without waiting; return the grant, the refusal, or None if it must ask."""
        try:
            return self.limits.take(*self.arguments(cost, operation))
        except Refused as refused:
            return refused

    async def call(self, cost=1, operation="get"):
        """Call; return the grant or the refusal."""
        try:
            arguments = self.arguments(cost, operation)
            return self.limits.take(*arguments) or await self.limits.take_shared(*arguments)
        except Refused as refused:
            return refused

    def used(self, operation="get", **amounts):
        """Say what a call turned out to use."""
        self.limits.spent(self.plan, self.who, self.product, operation, amounts)
