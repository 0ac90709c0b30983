"""What was decided about one request, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a decision says about a request."""

    ALLOW = "allow"
    DENY = "deny"
    OVER_LIMIT = "over_limit"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict that explains itself.

    Attributes:
        verdict: What was decided.
        rule: Id of the rule or limit that decided; empty when none matched.
        reason: One phrase for people, without data of the request's body, keys or secrets.
        remaining: Whole units that may still be spent at once; None without a limit.
        retry_after: Seconds until the same request would pass; None when waiting does not
            help or is not needed.
        shadow: The verdict is reported, not enforced.
    """

    verdict: Verdict
    rule: str
    reason: str
    remaining: int | None = None
    retry_after: float | None = None
    shadow: bool = False

    @property
    def passes(self) -> bool:
        """Whether the request goes on: it is allowed, or the rule runs in shadow."""
        return self.shadow or self.verdict is Verdict.ALLOW
