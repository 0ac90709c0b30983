"""What the workers did so far, counted by function version. Pure."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from faas.running import outcome as outcomes
from faas.running.outcome import Kind, Outcome
from faas.running.shares import Version

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of durations in seconds; what is over the last goes into one more bucket."""

MOST_VERSIONS = 2000
"""Most function versions that are counted apart; calls of further ones go under ``other``."""

OTHER = ("other", "other")


@dataclass(slots=True)
class Spread:
    """Durations by bucket of `BOUNDS`."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Tally:
    """Counts; every method costs a few dictionary look-ups."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[Version, Kind]] = Counter()
        self.errors: Counter[tuple[Version, str]] = Counter()
        self.throttles: Counter[tuple[Version, str]] = Counter()
        self.spilled: Counter[Version] = Counter()
        self.durations: defaultdict[Version, Spread] = defaultdict(Spread)
        self.starts: defaultdict[Kind, Spread] = defaultdict(Spread)
        self.waits = Spread()
        self.given_back = 0
        self.given_back_mib = 0
        self._known: set[Version] = set()

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """How many calls found their instance in which state."""
        kinds: Counter[Kind] = Counter()
        for (_, kind), count in self.calls.items():
            kinds[kind] += count
        return kinds

    def started(self, version: Version, kind: Kind, seconds: float) -> None:
        """Count an instance that came up."""
        self._place(version)
        self.starts[kind].add(seconds)

    def ended(self, version: Version, kind: Kind, outcome: Outcome, seconds: float) -> None:
        """Count a call that an instance took."""
        place = self._place(version)
        self.calls[place, kind] += 1
        self.durations[place].add(seconds)
        if outcome.error is not None:
            self.errors[place, _group(outcome.error_type)] += 1

    def throttled(self, version: Version, reason: str) -> None:
        """Count a call that was turned away."""
        self.throttles[self._place(version), reason] += 1

    def spilled_over(self, version: Version) -> None:
        """Count a call beyond what was provisioned."""
        self.spilled[self._place(version)] += 1

    def forget(self, name: str) -> None:
        """Drop the figures of a function that is no more."""
        gone = {version for version in self._known if version[0] == name}
        self._known -= gone
        for version in gone:
            self.durations.pop(version, None)
            self.spilled.pop(version, None)
        for counter in (self.calls, self.errors, self.throttles):
            for key in [key for key in counter if key[0] in gone]:
                del counter[key]

    def _place(self, version: Version) -> Version:
        if version not in self._known:
            if len(self._known) >= MOST_VERSIONS:
                return OTHER
            self._known.add(version)
        return version


_GROUPS = {
    outcomes.TIMED_OUT: "timeout",
    outcomes.EXITED: "exit",
    outcomes.OUT_OF_MEMORY: "memory",
    outcomes.TOO_LARGE: "size",
    outcomes.SLOW_READER: "reader",
}


def _group(error_type: str) -> str:
    """Return a label of few values: the platform's own names, the function's under ``function``."""
    return _GROUPS.get(error_type, "function")
