"""Fold access log entries into counts, rates and latencies by edge, within bounds."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from telemetry.edge import OVERFLOW, Edge, Entry, Reporter
from telemetry.latency import Latencies

RATE_SECONDS = 10
"""How far back `Traffic.rate` and `Traffic.error_rate` look."""

LATENCY_SECONDS = 60
"""How far back the quantiles of `Traffic` look."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went from one service to a version of another.

    Attributes:
        reporter: Who counted; the caller's Envoy where both did.
        requests: Since the start.
        errors: Those of them that failed, see `Edge.failed`.
        rate: Requests a second over the last `RATE_SECONDS`.
        error_rate: Failed requests a second over the same time.
        p50: Milliseconds over the last `LATENCY_SECONDS`; None without requests then.
        p95: As ``p50``.
        p99: As ``p50``.
    """

    reporter: Reporter
    source: str
    destination: str
    destination_version: str
    requests: int
    errors: int
    rate: float
    error_rate: float
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(slots=True)
class _Second:
    """What ended within one second of the clock."""

    at: int
    requests: int = 0
    errors: int = 0
    latencies: Latencies = field(default_factory=Latencies)


class _Line:
    """Totals of one line between services, and its last minute second by second."""

    __slots__ = ("errors", "first", "requests", "seconds")

    def __init__(self, now: float) -> None:
        self.first = now
        self.requests = 0
        self.errors = 0
        self.seconds: deque[_Second] = deque(maxlen=LATENCY_SECONDS)

    def add(self, milliseconds: float, now: float, *, failed: bool) -> None:
        if not self.seconds or self.seconds[-1].at != int(now):
            self.seconds.append(_Second(int(now)))
        second = self.seconds[-1]
        self.requests += 1
        self.errors += failed
        second.requests += 1
        second.errors += failed
        second.latencies.add(milliseconds)

    def since(self, start: float) -> Iterator[_Second]:
        return (second for second in self.seconds if second.at >= start)


_Key = tuple[str, str, str, Reporter]


class Rollup:
    """Counts of everything received. One task owns it."""

    def __init__(self, *, max_edges: int = 10_000) -> None:
        """Keep at most ``max_edges`` apart; later ones count together, as `OVERFLOW`."""
        self.overflowed = 0
        self._max = max_edges
        self._edges: Counter[Edge] = Counter()
        self._lines: dict[_Key, _Line] = {}

    def add(self, entry: Entry, *, now: float) -> Edge:
        """Count one entry that arrived at ``now`` (seconds, never less than before).

        Returns:
            The edge it was counted under: its own or `OVERFLOW`.
        """
        edge = entry.edge
        if edge not in self._edges and len(self._edges) >= self._max:
            self.overflowed += 1
            edge = OVERFLOW
        self._edges[edge] += 1
        key = (edge.source, edge.destination, edge.destination_version, edge.reporter)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(now)
        line.add(entry.milliseconds, now, failed=entry.edge.failed)
        return edge

    def edges(self) -> dict[Edge, int]:
        """Return how many requests each edge has seen."""
        return dict(self._edges)

    def traffic(self, *, now: float) -> list[Traffic]:
        """Return what flows between services, the busiest first."""
        kept = (
            _traffic(key, line, now)
            for key, line in self._lines.items()
            if key[-1] == "source" or (*key[:-1], "source") not in self._lines
        )
        return sorted(kept, key=lambda t: (-t.rate, -t.requests, t.source, t.destination))


def _traffic(key: _Key, line: _Line, now: float) -> Traffic:
    source, destination, version, reporter = key
    start = max(int(now) - RATE_SECONDS + 1, line.first)
    recent = tuple(line.since(int(start)))
    elapsed = max(now - start, 1.0)
    latencies = Latencies.together(s.latencies for s in line.since(now - LATENCY_SECONDS))
    return Traffic(
        reporter=reporter,
        source=source,
        destination=destination,
        destination_version=version,
        requests=line.requests,
        errors=line.errors,
        rate=sum(s.requests for s in recent) / elapsed,
        error_rate=sum(s.errors for s in recent) / elapsed,
        p50=latencies.quantile(0.50),
        p95=latencies.quantile(0.95),
        p99=latencies.quantile(0.99),
    )
