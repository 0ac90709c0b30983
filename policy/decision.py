"""What was decided about one request, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a decision says about a request."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict that explains itself.

    Attributes:
        verdict: What was decided.
        rule: Id of the rule that decided; empty when none matched.
        reason: One phrase for people, without data of the request's body, keys or secrets.
        shadow: The verdict is reported, not enforced.
    """

    verdict: Verdict
    rule: str
    reason: str
    shadow: bool = False

    @property
    def passes(self) -> bool:
        """Whether the request goes on: it is allowed, or the rule runs in shadow."""
        return self.shadow or self.verdict is Verdict.ALLOW
