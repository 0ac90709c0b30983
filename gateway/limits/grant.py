"""What a caller is told: the fields of an admitted call, and the refusal of another.

Source: draft-ietf-httpapi-ratelimit-headers
"""

from collections.abc import Callable, Mapping

from gateway.limits.allowance import Allowance
from gateway.limits.counters import Bucket, Counted, Gate, rounded
from gateway.limits.limiter import Limiter
from gateway.problem import Refused, over_quota

Leave = Callable[[Gate], None]
"""Gives a place back."""

_NOTHING: Mapping[str, str] = {}


class Place:
    """The limits of one plan as they hold for one caller in the windows of now.

    Args:
        allowance: The plan.
        buckets: One for each of its paces.
        counts: One for each of its shares.
        gate: None has no limit of this kind.
    """

    __slots__ = ("allowance", "counts", "ends", "gate", "limiters", "policy")

    def __init__(
        self,
        allowance: Allowance,
        buckets: tuple[Bucket, ...],
        counts: tuple[Counted, ...],
        gate: Gate | None,
    ) -> None:
        self.allowance, self.counts, self.gate = allowance, counts, gate
        limiters: list[Limiter] = [*buckets, *counts]
        if gate is not None:
            limiters.append(gate)
        self.limiters = tuple(limiters)
        self.ends = min((each.count.window.ends for each in counts), default=1 << 63)
        items = [bucket.pace.policy for bucket in buckets]
        items += [each.policy_item() for each in counts]
        if gate is not None and allowance.places is not None:
            items.append(allowance.places.policy)
        self.policy = ", ".join(items)

    def fields(self, now: int) -> dict[str, str]:
        """Return the rate limit fields at ``now`` (Unix nanoseconds)."""
        if not self.policy:
            return {}
        items = [item for limiter in self.limiters if (item := limiter.item(now))]
        if not items:
            return {"RateLimit-Policy": self.policy}
        return {"RateLimit-Policy": self.policy, "RateLimit": ", ".join(items)}


class Grant:
    """A call that its limits let through.

    Args:
        place: The limits; None has none.
        now: Unix nanoseconds.
    """

    __slots__ = ("_gate", "_leave", "_now", "_place")

    def __init__(self, place: Place | None, now: int, leave: "Leave | None" = None) -> None:
        self._place, self._now = place, now
        self._gate = None if place is None else place.gate
        self._leave = leave

    @property
    def fields(self) -> Mapping[str, str]:
        """The rate limit fields of the answer."""
        return _NOTHING if self._place is None else self._place.fields(self._now)

    def release(self) -> None:
        """Give back the call's place among those under way; the second time does nothing."""
        if self._gate is not None and self._leave is not None:
            self._leave(self._gate)
            self._gate = None


def refusal(place: Place, limiter: Limiter, cost: int, now: int) -> Refused:
    """Return the refusal of a call that ``limiter`` does not let through."""
    plan, fields = place.allowance.plan, place.fields(now)
    wait = limiter.wait(cost, now)
    if isinstance(limiter, Gate):
        detail = f"Plan {plan!r} allows {limiter.most} calls under way at once."
    elif wait is None:
        detail = f"The call costs {cost}, more than plan {plan!r} ever allows."
    elif isinstance(limiter, Counted):
        detail = (
            f"Quota {limiter.policy!r} of plan {plan!r} is used up; "
            f"the next window begins in {rounded(wait)} s."
        )
    else:
        detail = f"Plan {plan!r} is used up; the next request passes in {rounded(wait)} s."
    if wait is not None:
        fields["Retry-After"] = str(rounded(wait))
    return over_quota(limiter.policy, detail, fields)
