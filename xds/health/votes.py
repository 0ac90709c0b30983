"""What several checkers say of an endpoint, folded into one word.

An endpoint is unhealthy when more than half of the checkers that have an opinion say so. A tie is
healthy, and so is an endpoint that nobody has an opinion on: a mistaken "healthy" costs a retry, a
mistaken "unhealthy" may take the last endpoint away. An opinion counts while its checker is
connected and still assigned to the endpoint, and only about what it was assigned to.

Envoy reports an endpoint as unhealthy until its first check has ended. So an unfavourable word is
not believed before that must have happened, unless a favourable one came earlier.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from xds.health.check import Endpoint, Target


@dataclass(frozen=True, slots=True, order=True)
class EndpointHealth:
    """One endpoint that is checked.

    Attributes:
        cluster: Name of its cluster.
        endpoint: Where it is.
        healthy: What the checkers together say.
        checkers: How many have an opinion.
        against: How many of them say that it is unhealthy.
    """

    cluster: str
    endpoint: Endpoint
    healthy: bool
    checkers: int
    against: int


class Votes:
    """Opinions by endpoint. For one task at a time.

    Attributes:
        unhealthy: Every endpoint that is unhealthy; a new set whenever that changes.
    """

    def __init__(self) -> None:
        self.unhealthy: frozenset[Target] = frozenset()
        self._assigned: dict[int, dict[Target, float]] = {}
        self._cast: dict[Target, dict[int, bool]] = {}
        self._eyes: Counter[Target] = Counter()

    def assign(self, checker: int, targets: Mapping[Target, float], *, now: float) -> None:
        """Let ``checker`` speak about ``targets`` only; forget what it said of others.

        Args:
            checker: Who.
            targets: Each with the seconds that its first check takes at most.
            now: Seconds on a clock that never goes back.
        """
        old = self._assigned.get(checker, {})
        self._assigned[checker] = {
            target: old[target] if target in old else now + seconds
            for target, seconds in targets.items()
        }
        new, gone = targets.keys() - old.keys(), frozenset(old.keys() - targets.keys())
        self._eyes.update(new)
        for target in new:
            self._cast.setdefault(target, {})
        for target in gone:
            self._drop(target, checker)
        self._judge(gone)

    def say(self, checker: int, verdicts: Mapping[Target, bool], *, now: float) -> None:
        """Take what ``checker`` says; True is healthy. What it leaves out it has no word on."""
        mine = self._assigned.get(checker, {})
        for target, believed_from in mine.items():
            votes, healthy = self._cast[target], verdicts.get(target)
            if healthy:
                mine[target] = now
            if healthy or (healthy is not None and now >= believed_from):
                votes[checker] = healthy
            else:
                votes.pop(checker, None)
        self._judge(frozenset(mine))

    def leave(self, checker: int) -> None:
        """Forget ``checker`` and all it said."""
        self.assign(checker, {}, now=0.0)
        del self._assigned[checker]

    def status(self) -> tuple[EndpointHealth, ...]:
        """Return every endpoint that somebody is assigned to, sorted."""
        return tuple(
            sorted(
                EndpointHealth(
                    cluster,
                    endpoint,
                    (cluster, endpoint) not in self.unhealthy,
                    len(votes),
                    _against(votes),
                )
                for (cluster, endpoint), votes in self._cast.items()
            )
        )

    def _drop(self, target: Target, checker: int) -> None:
        self._cast[target].pop(checker, None)
        self._eyes[target] -= 1
        if not self._eyes[target]:
            del self._eyes[target], self._cast[target]

    def _judge(self, targets: frozenset[Target]) -> None:
        bad = {t for t in targets if 2 * _against(v := self._cast.get(t, {})) > len(v)}
        if bad != self.unhealthy & targets:
            self.unhealthy = (self.unhealthy - targets) | bad


def _against(votes: Mapping[int, bool]) -> int:
    return sum(not healthy for healthy in votes.values())
