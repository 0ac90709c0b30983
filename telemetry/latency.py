"""Latencies in few numbers, with quantiles that are right within five percent."""

from collections import Counter
from collections.abc import Iterable
from math import ceil, log

_GROWTH = 1.1
_LEAST_MS = 0.01
_MOST_MS = 3_600_000.0


class Latencies:
    """A histogram whose buckets grow by a tenth each, from 10 microseconds to an hour.

    At most 208 counts are kept; longer and shorter times count as the bounds.

    Source: Masson, Rim and Lee, DDSketch, VLDB 2019
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        """Count one request."""
        within = min(max(milliseconds, _LEAST_MS), _MOST_MS)
        self._counts[ceil(log(within / _LEAST_MS, _GROWTH))] += 1

    @classmethod
    def together(cls, several: Iterable["Latencies"]) -> "Latencies":
        """Return the sum of ``several``."""
        total = cls()
        for each in several:
            total._counts.update(each._counts)
        return total

    def quantile(self, q: float) -> float | None:
        """Return milliseconds that the share ``q`` (0 to 1) did not exceed; None without any."""
        rank = q * (self._counts.total() - 1)
        below = 0
        for bucket in sorted(self._counts):
            below += self._counts[bucket]
            if below > rank:
                return _LEAST_MS * 2 * _GROWTH**bucket / (_GROWTH + 1)
        return None
