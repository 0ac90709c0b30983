"""Rate limits as values: the generic cell rate algorithm, with time as an argument.

All arithmetic is on whole numbers, so no rounding ever lets a request too many through.

Source: https://www.itu.int/rec/T-REC-I.371 (GCRA, virtual scheduling)
"""

from dataclasses import dataclass, field
from math import isfinite

from policy.decision import Decision, Verdict

_TICKS = 1_000_000
"""Instants are read to the microsecond."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``requests`` in each ``per``, evenly, and up to ``burst`` at once.

    Attributes:
        rule: Id shown in decisions.
        requests: Units that flow back in ``per``; at least 1.
        per: Seconds, at least a microsecond.
        burst: Most units that can be spent at one instant; at least 1.

    Raises:
        ValueError: A number is out of its range.
    """

    rule: str
    requests: int
    per: float
    burst: int
    _interval: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        interval = round(self.per * _TICKS) if isfinite(self.per) else 0
        if self.requests < 1 or self.burst < 1 or interval < 1:
            raise ValueError(
                f"limit {self.rule!r}: {self.requests} requests per {self.per} s with burst "
                f"{self.burst}, expected at least 1 request, 1 microsecond and burst 1"
            )
        object.__setattr__(self, "_interval", interval)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one caller has spent of one `Limit`; a new one is full.

    A bucket has a meaning only with the limit that it was taken from.

    Attributes:
        due: When the bucket is full again, in the limit's own fine ticks; None: it is full.
    """

    due: int | None = None


FULL = Bucket()
"""The bucket of a caller who has spent nothing."""


def take(limit: Limit, bucket: Bucket, cost: int, now: float) -> tuple[Bucket, Decision]:
    """Spend ``cost`` units if ``bucket`` holds them at ``now``; else spend none.

    Over any time ``t`` at most ``burst + requests * t / per`` units are spent. A refusal's
    ``retry_after`` is exact to the microsecond: the same call then passes, and not before,
    if nothing else is spent meanwhile.

    Args:
        limit: What may be spent.
        bucket: What was spent, from an earlier call with the same limit, or `FULL`.
        cost: Units, at least 0; over ``limit.burst`` it is refused for good.
        now: Seconds on a clock that never goes back.
    """
    # One microsecond is `requests` ticks and one unit is `_interval` ticks: no fractions.
    at = round(now * _TICKS) * limit.requests
    interval = limit._interval
    room = limit.burst * interval
    due = at if bucket.due is None or bucket.due < at else bucket.due
    after = due + cost * interval
    if after - at <= room:
        left = (room - (after - at)) // interval
        return Bucket(after), Decision(Verdict.ALLOW, limit.rule, "within the rate", left)
    left = max(0, (room - (due - at)) // interval)
    if cost > limit.burst:
        return bucket, Decision(Verdict.OVER_LIMIT, limit.rule, "costs more than the burst", left)
    wait = -(-(after - room - at) // limit.requests) / _TICKS
    return bucket, Decision(Verdict.OVER_LIMIT, limit.rule, "over the rate", left, wait)


def full_after(limit: Limit, bucket: Bucket, now: float) -> float:
    """Return the seconds until ``bucket`` is full if nothing more is spent."""
    if bucket.due is None:
        return 0.0
    return max(0, bucket.due - round(now * _TICKS) * limit.requests) / limit.requests / _TICKS
