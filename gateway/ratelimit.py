"""Plans as limits: who may call how much, and how that is said to the caller.

Source: draft-ietf-httpapi-ratelimit-headers
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from gateway.problem import over_quota
from policy.limits import FULL, Bucket, Limit, full_after, take
from wherry.model.product import Plan, Rate
from wherry.model.resource import seconds

MAX_BUCKETS = 100_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """A plan, ready to be applied.

    Attributes:
        plan: Its name.
        limit: What it allows.
        policy: The ``RateLimit-Policy`` field.
    """

    plan: str
    limit: Limit
    policy: str

    @classmethod
    def of(cls, plan: Plan) -> "Allowance":
        """Prepare ``plan``; a window that is no whole number of seconds is shown as a multiple."""
        rate = plan.spec.rate or Rate(requests=1_000_000_000, per="1s")
        per = Fraction(seconds(rate.per)).limit_denominator(1000)
        quota, window = rate.requests * per.denominator, per.numerator
        limit = Limit(plan.name, rate.requests, float(per), rate.burst or rate.requests)
        return cls(plan.name, limit, f'"{plan.name}";q={quota};w={window}')


class Throttle:
    """What each caller has spent, in this process.

    Args:
        most: Buckets kept; when there are more, the one unused for longest is forgotten, and
            its caller begins with a full one. Several gateways each count for themselves.
    """

    def __init__(self, most: int = MAX_BUCKETS) -> None:
        self._most = most
        self._buckets: OrderedDict[tuple[str, str], tuple[Limit, Bucket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(
        self, caller: str, product: str, allowance: Allowance, now: float
    ) -> Mapping[str, str]:
        """Spend one request and return the fields that go with the answer.

        A bucket lasts as long as its limit stays the same; another limit begins with a full
        one.

        Args:
            caller: Prefix of the key.
            product: What is called.
            allowance: The plan that it is called under.
            now: Seconds on a clock that never goes back.

        Raises:
            Refused: 429, the rate is exceeded.
        """
        limit, place = allowance.limit, (caller, product)
        held = self._buckets.get(place)
        bucket = held[1] if held and (held[0] is limit or held[0] == limit) else FULL
        bucket, decision = take(limit, bucket, 1, now)
        self._buckets[place] = (limit, bucket)
        self._buckets.move_to_end(place)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        reset = ceil(full_after(limit, bucket, now))
        fields = {
            "RateLimit-Policy": allowance.policy,
            "RateLimit": f'"{allowance.plan}";r={decision.remaining};t={reset}',
        }
        if decision.passes:
            return fields
        wait = max(1, ceil(decision.retry_after or 0))
        fields["Retry-After"] = str(wait)
        detail = f"Plan {allowance.plan!r} is used up; the next request passes in {wait} s."
        raise over_quota(allowance.plan, detail, fields)
