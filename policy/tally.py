"""How often each rule decided what."""

from collections import Counter
from collections.abc import Mapping

from policy.decision import Decision, Verdict

OVERFLOW = "(overflow)"
"""Stands for every rule past the limit of a `Tally`."""


class Tally:
    """Decisions counted by rule and verdict since the start. Not shared between threads."""

    def __init__(self, *, max_rules: int = 10_000) -> None:
        """Count at most ``max_rules`` apart; the rest is counted together, as `OVERFLOW`."""
        self._counts: Counter[tuple[str, Verdict]] = Counter()
        self._max = max_rules

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        key = (decision.rule, decision.verdict)
        if key not in self._counts and len(self._counts) >= self._max:
            key = (OVERFLOW, decision.verdict)
        self._counts[key] += 1

    def collect(self) -> Mapping[tuple[str, Verdict], int]:
        """Return the counts by rule id, as `policy.engine.Engine.decide` gives it, and verdict."""
        return dict(self._counts)
