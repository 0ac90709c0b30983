"""What every limit can be asked, and what it answers."""

from enum import IntEnum
from typing import Protocol

from wherry.store.steps import Advance, Advanced


class Verdict(IntEnum):
    """What a node's knowledge says of a call."""

    ADMIT = 0
    ASK = 1
    REFUSE = 2


ADMIT, ASK, REFUSE = Verdict


class Counter(Protocol):
    """What is reported to the Store."""

    @property
    def dirty(self) -> bool:
        """Whether a report is due; one that only asks leaves it so."""
        ...

    def report(self, now: int) -> Advance:
        """Return the step that tells the Store what came since; ``now`` is Unix nanoseconds."""
        ...

    def answered(self, found: Advanced, now: int) -> None:
        """Take in what the Store says the count is."""
        ...

    def lost(self, nodes: int) -> bool:
        """Go on after a report that may or may not have arrived.

        Returns:
            Whether a report became due that was not.
        """
        ...


class Limiter(Protocol):
    """One limit as it holds for one caller.

    Attributes:
        policy: Name of its policy.
    """

    policy: str

    def check(self, cost: int, now: int, nodes: int) -> Verdict:
        """Judge a call.

        Args:
            cost: Its units, at least 0.
            now: Unix nanoseconds.
            nodes: How many share the count; 0: this one is alone.
        """
        ...

    def spend(self, cost: int, now: int, nodes: int, parts: int = 1) -> Counter | None:
        """Count a call; return the counter if it has something new to report.

        Args:
            cost: Its units.
            now: Unix nanoseconds.
            nodes: As for `check`.
            parts: How many nodes count for themselves, each its part; 1: they count together.
        """
        ...

    def refund(self, cost: int) -> Counter | None:
        """Take back a call that was counted but refused by another limit."""
        ...

    def alone(self, cost: int, now: int, nodes: int) -> bool:
        """Return whether a call is within this node's part while the Store cannot be asked."""
        ...

    def item(self, now: int) -> str:
        """Return the item of the ``RateLimit`` field; empty for none."""
        ...

    def wait(self, cost: int, now: int) -> float | None:
        """Return seconds until the same call could pass; None: never."""
        ...
