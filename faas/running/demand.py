"""How many instances a version's calls keep busy: arrivals times service time. Pure."""

import math
from dataclasses import dataclass

WINDOW = 20.0
"""Seconds over which arrivals are averaged; older ones fade exponentially."""
ENOUGH = 2.0
"""Arrivals within the window below which a version is not busy: nothing is started ahead."""
MARGIN = 2.0
"""Standard deviations of the number of calls in service that are kept ready on top of its mean."""
BEYOND = 0.025
"""Share of arrivals that find more than that in service, and an instance started for each."""
_SHARE = 0.2
"""How much the newest duration counts in an average of durations."""


@dataclass(slots=True)
class Demand:
    """What was seen of one version's calls; the clock is an argument.

    Source: Little's law, L = rate x time in service; with arrivals at random the number in
    service is Poisson, so its standard deviation is the root of L.
    """

    _count: float = 0.0
    _at: float = 0.0
    _run: float | None = None
    _start: float | None = None

    def arrived(self, now: float) -> None:
        """Note that a call came at ``now`` (monotonic seconds)."""
        self._count = self._faded(now) + 1.0
        self._at = now

    def ran(self, seconds: float) -> None:
        """Note how long a call kept its instance."""
        self._run = _blended(self._run, seconds)

    def started(self, seconds: float) -> None:
        """Note how long an instance took to come up."""
        self._start = _blended(self._start, seconds)

    def rate(self, now: float) -> float:
        """Return arrivals a second."""
        return self._faded(now) / WINDOW

    def target(self, now: float) -> int:
        """Return how many instances to have, busy ones included, so that few calls wait for one.

        Those that run, a margin, and one for each of the few arrivals beyond it that come within
        the time that a start takes. Falls to 0 as calls stay away.
        """
        if self._faded(now) < ENOUGH:
            return 0
        rate = self.rate(now)
        load = rate * (self._run or 0.0)
        coming = BEYOND * rate * (self._start or 0.0)
        return max(1, math.ceil(load + MARGIN * math.sqrt(load) + coming))

    def _faded(self, now: float) -> float:
        return self._count * math.exp(-max(0.0, now - self._at) / WINDOW)


def _blended(average: float | None, newest: float) -> float:
    return newest if average is None else average + _SHARE * (newest - average)
