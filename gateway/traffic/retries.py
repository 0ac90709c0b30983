"""Which requests are sent once more, and when.

Source: RFC 9110 section 9.2.2; https://sre.google/sre-book/handling-overload/ (retry budgets)
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from wherry.model.resource import seconds
from wherry.model.traffic import Retries

Outcome = Literal["connect", "reset"] | int
"""How a try went: the connection was not made, it broke before an answer, or a status."""

WINDOW = 10
"""Seconds over which a budget counts."""

FEW = 3
"""Retries in a window that are always allowed, so that a quiet product has some too."""

FIRST_WAIT, LONGEST_WAIT = 0.025, 0.25
"""Seconds before the first retry at most, and before any."""


class Budget:
    """Requests and retries of the last ten seconds; ``now`` never goes back.

    Args:
        percent: Most retries for each hundred requests; 0 is none at all.
    """

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._slots: deque[list[int]] = deque()
        self._requests = self._retries = 0

    def request(self, now: float) -> None:
        """Count a request, however often it will be tried."""
        self._slot(now)[1] += 1
        self._requests += 1

    def take(self, now: float) -> bool:
        """Return whether one more retry is in the budget, and count it if so."""
        slot = self._slot(now)
        most = max(FEW, self._requests * self._percent // 100) if self._percent else 0
        if self._retries >= most:
            return False
        slot[2] += 1
        self._retries += 1
        return True

    def _slot(self, now: float) -> list[int]:
        second = int(now)
        while self._slots and self._slots[0][0] <= second - WINDOW:
            _, requests, retries = self._slots.popleft()
            self._requests -= requests
            self._retries -= retries
        if not self._slots or self._slots[-1][0] != second:
            self._slots.append([second, 0, 0])
        return self._slots[-1]


@dataclass(frozen=True, slots=True)
class Repeating:
    """A policy, ready to use.

    Attributes:
        attempts: Beside the first.
        on: Outcomes after which a request is tried again.
        methods: Of requests that may be.
        budget_percent: For a `Budget`, which the shell keeps for each upstream.
        per_try: Seconds for each try; None: only the route's timeout counts.
    """

    attempts: int
    on: frozenset[Outcome]
    methods: frozenset[str]
    budget_percent: int
    per_try: float | None

    @classmethod
    def of(cls, retries: Retries) -> "Repeating":
        """Prepare ``retries``."""
        on: set[Outcome] = set()
        for each in retries.on:
            on.add(each if each in ("connect", "reset") else int(each))
        return cls(
            retries.attempts,
            frozenset(on),
            frozenset(retries.methods),
            retries.budget_percent,
            None if retries.per_try is None else seconds(retries.per_try),
        )

    def again(
        self, method: str, outcome: Outcome, tried: int, *, retry_after: str | None = None
    ) -> bool:
        """Return whether a request may be sent once more, if its body can be and the budget lasts.

        Args:
            method: Of the request.
            outcome: Of the last try.
            tried: How often it was sent by now, at least 1.
            retry_after: The answer's field; an upstream that names a time is not asked before.
        """
        return (
            tried <= self.attempts
            and outcome in self.on
            and method in self.methods
            and retry_after is None
        )


def wait(tried: int, dice: float) -> float:
    """Return the seconds to wait before the next try: twice as long each time, at random below.

    Args:
        tried: How often the request was sent by now, at least 1.
        dice: At random from 0 to 1.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return dice * min(LONGEST_WAIT, FIRST_WAIT * (1 << (tried - 1)))
