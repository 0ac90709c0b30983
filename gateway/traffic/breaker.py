"""When an upstream is left alone, and when it is asked again.

Closed: everything passes, and failures in a row are counted. Open: nothing passes for a while.
Then one request at a time is let through: a good answer closes the breaker, a bad one opens it
again. Answers to requests that were let through before the state changed count no more.
"""

from dataclasses import dataclass

from gateway.recent import Recent
from wherry.model.resource import seconds
from wherry.model.traffic import Breaker as Model

MAX_BREAKERS = 10_000
"""Most upstreams that are remembered; the one not asked for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class Permit:
    """One request that was let through.

    Attributes:
        era: Which state let it through.
        trial: Whether it decides if the breaker closes.
    """

    era: int
    trial: bool


class Breaker:
    """One upstream's breaker; ``now`` is seconds on a clock that never goes back.

    Args:
        failures: In a row after which it opens.
        open_for: Seconds.
    """

    def __init__(self, failures: int, open_for: float) -> None:
        self._most, self._open_for = failures, open_for
        self._era, self._failures = 0, 0
        self._until: float | None = None
        self._trial_ends: float | None = None

    @classmethod
    def of(cls, model: Model) -> "Breaker":
        """Return a closed breaker."""
        return cls(model.failures, seconds(model.open_for))

    @property
    def closed(self) -> bool:
        """Whether everything passes."""
        return self._until is None

    def admit(self, now: float) -> Permit | None:
        """Return the permit of a request, or None: the upstream is left alone.

        Every permit is handed back to `ended`. A trial that is not counts no more after
        ``open_for``.
        """
        if self._until is None:
            return Permit(self._era, trial=False)
        if now < self._until or (self._trial_ends is not None and now < self._trial_ends):
            return None
        self._era += 1
        self._trial_ends = now + self._open_for
        return Permit(self._era, trial=True)

    def ended(self, permit: Permit, *, good: bool | None, now: float) -> None:
        """Count how a request went.

        Args:
            permit: Of `admit`.
            good: False for a 5xx answer or a broken connection; None when nobody knows, as the
                client went away first.
            now: When.
        """
        if permit.era != self._era:
            return
        if permit.trial:
            self._tried(good=good, now=now)
        elif good:
            self._failures = 0
        elif good is False:
            self._failures += 1
            if self._failures >= self._most:
                self._open(now)

    def retry_after(self, now: float) -> float:
        """Return the seconds (>= 0) until a request may pass again."""
        ends = max(self._until or now, self._trial_ends or now)
        return max(0.0, ends - now)

    def _tried(self, *, good: bool | None, now: float) -> None:
        self._trial_ends = None
        if good:
            self._era, self._failures, self._until = self._era + 1, 0, None
        elif good is False:
            self._open(now)

    def _open(self, now: float) -> None:
        self._era += 1
        self._failures, self._until, self._trial_ends = 0, now + self._open_for, None


class Breakers:
    """Breakers by upstream, which outlive a change of the catalogue.

    Args:
        most: See `MAX_BREAKERS`.
    """

    def __init__(self, most: int = MAX_BREAKERS) -> None:
        self._kept: Recent[tuple[str, Model], Breaker] = Recent(most)

    def of(self, upstream: str, model: Model) -> Breaker:
        """Return the breaker of ``upstream`` under these settings; other settings, another one."""
        return self._kept.of((upstream, model), lambda: Breaker.of(model))
