"""A plan's limits, compiled: what is counted, for whom, how far."""

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal
from zoneinfo import ZoneInfo

from gateway.call import Caller
from gateway.limits.windows import SECOND, Windows, anchored, calendar
from wherry.model.plan import By, Concurrency, Plan, Quota, Rate, Spike
from wherry.model.resource import seconds

CONCURRENCY = "concurrency"
SPIKE = "spike"

NEAR = 100
"""A shared limit is kept to one part in so many; see `gateway.limits.counters`."""

_MOST_WINDOW = 10**15
"""Largest integer of a structured field."""


@dataclass(frozen=True, slots=True)
class Pace:
    """So much time per unit, with room for some units at once.

    Attributes:
        name: Of the policy, shown to callers.
        interval: Nanoseconds that a unit takes to flow back; at least 1.
        room: Nanoseconds of units that fit in at one instant.
        fixed: Whether each call is one unit, whatever it costs.
        near: Nanoseconds of units that nodes that share it may keep to themselves: half a
            hundredth of the burst, or of what flows back in a second if that is more.
        by: Whose calls share it.
        policy: Item of the ``RateLimit-Policy`` field.

    Source: https://www.itu.int/rec/T-REC-I.371 (GCRA, virtual scheduling)
    """

    name: str
    interval: int
    room: int
    fixed: bool
    near: int
    by: By
    policy: str


@dataclass(frozen=True, slots=True)
class Share:
    """At most ``limit`` units of a meter in each window.

    Attributes:
        name: Of the policy, shown to callers.
        limit: Units.
        windows: Gives the window of an instant.
        near: Units that nodes that share it may keep to themselves: a hundredth of the limit.
        meter: What is counted.
        requests: Whether that is the calls' cost, known beforehand.
        app: Whether each app counts for itself, or the consumer as a whole.
        per: Whether it counts for all products, this one, or this operation.
        unit: Parameter of the policy that names the meter; empty for requests.
    """

    name: str
    limit: int
    windows: Windows
    near: int
    meter: str
    requests: bool
    app: bool
    per: Literal["all", "product", "operation"]
    unit: str


@dataclass(frozen=True, slots=True)
class Places:
    """At most ``most`` calls under way at once.

    Attributes:
        by: Whose calls share the places.
        policy: Item of the ``RateLimit-Policy`` field.
    """

    most: int
    by: By
    policy: str


@dataclass(frozen=True, slots=True, eq=False)
class Allowance:
    """A plan, ready to be applied; made once for each World.

    Attributes:
        plan: Its name.
        paces: Spike arrest before the rate.
        shares: Quotas.
        places: Concurrency, or None.
        when_store_fails: See `wherry.model.plan.PlanSpec`.
        by_address: Whether the client's address says whose calls share a count.
        by_operation: Whether a quota counts operations apart.
        meters: Meters beside ``requests`` that a quota counts.
    """

    plan: str
    paces: tuple[Pace, ...]
    shares: tuple[Share, ...]
    places: Places | None
    when_store_fails: Literal["open", "closed", "local"]
    by_address: bool
    by_operation: bool
    meters: frozenset[str]

    @classmethod
    def of(cls, plan: Plan, *, timezone: str = "UTC", begins: str | None = None) -> "Allowance":
        """Compile ``plan``.

        Args:
            plan: What the consumer subscribed to.
            timezone: The consumer's; quotas without one of their own count in it.
            begins: First day of the subscription; anchored windows begin with it. None is
                the day 1970-01-01.
        """
        spec = plan.spec
        taken = {plan.name, SPIKE, CONCURRENCY}
        paces = [_spike(spec.spike)] if spec.spike else []
        paces += [_rate(plan.name, spec.rate)] if spec.rate else []
        shares = tuple(
            _share(quota, taken, windows_of(quota, timezone, begins)) for quota in spec.quotas
        )
        return cls(
            plan.name,
            tuple(paces),
            shares,
            _places(spec.concurrency) if spec.concurrency else None,
            spec.when_store_fails,
            any(pace.by == "address" for pace in paces),
            any(share.per == "operation" for share in shares),
            frozenset(share.meter for share in shares if not share.requests),
        )


def windows_of(quota: Quota, timezone: str, begins: str | None) -> Windows:
    """Return the windows that ``quota`` counts in.

    Args:
        quota: Of a plan.
        timezone: The consumer's; of calendar windows when the quota names none.
        begins: First day of the subscription; None is 1970-01-01.
    """
    if quota.every is None:
        return calendar(quota.window, ZoneInfo(quota.timezone or timezone))
    since = date.fromisoformat(begins) if begins else date(1970, 1, 1)
    return anchored(since, ZoneInfo(timezone), round(seconds(quota.every) * SECOND))


def subject(by: By, caller: Caller, peer: str) -> str:
    """Return whose count it is, as a part of its name."""
    match by:
        case "credential":
            return f"credential/{caller.credential}"
        case "app":
            return f"app/{caller.consumer}/{caller.app}"
        case "consumer":
            return f"consumer/{caller.consumer}"
        case "address":
            return f"address/{peer}"


def _rate(name: str, rate: Rate) -> Pace:
    per = round(seconds(rate.per) * SECOND)
    interval = max(1, per // rate.requests)
    burst = rate.burst or rate.requests
    near = max(burst, SECOND // interval) // (2 * NEAR) * interval
    policy = _policy(name, rate.requests, rate.per)
    return Pace(name, interval, burst * interval, False, near, rate.by, policy)


def _spike(spike: Spike) -> Pace:
    interval = max(1, round(seconds(spike.per) * SECOND) // spike.requests)
    policy = _policy(SPIKE, spike.requests, spike.per)
    return Pace(SPIKE, interval, interval, True, 0, spike.by, policy)


def _policy(name: str, requests: int, per: str) -> str:
    """Say a rate in whole seconds; another window is shown as a multiple."""
    window = Fraction(seconds(per)).limit_denominator(1000)
    quota = min(requests * window.denominator, _MOST_WINDOW - 1)
    return f'"{name}";q={quota};w={max(1, window.numerator)}'


def _share(quota: Quota, taken: set[str], windows: Windows) -> Share:
    name = f"{quota.name}-quota" if quota.name in taken else quota.name
    requests = quota.meter == "requests"
    return Share(
        name,
        quota.limit,
        windows,
        quota.limit // NEAR,
        quota.meter,
        requests,
        quota.by == "app",
        quota.per,
        "" if requests else f';qu="{quota.meter}"',
    )


def _places(concurrency: Concurrency) -> Places:
    policy = f'"{CONCURRENCY}";q={concurrency.calls};qu="concurrent-requests"'
    return Places(concurrency.calls, concurrency.by, policy)
