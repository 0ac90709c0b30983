"""Where entries become counts: the rollup and the metrics, in step."""

from collections import defaultdict

from telemetry.edge import OVERFLOW, Edge
from telemetry.metrics import Metrics
from telemetry.rollup import Rollup
from telemetry.wire import Batch


class Ingest:
    """Takes batches of entries. One task at a time."""

    def __init__(self, *, max_edges: int = 10_000) -> None:
        self.rollup = Rollup(max_edges=max_edges)
        self.metrics = Metrics(max_edges=max_edges)

    def take(self, batch: Batch, *, now: float) -> None:
        """Count every entry of ``batch``, received at ``now`` (seconds)."""
        durations: defaultdict[Edge, list[float]] = defaultdict(list)
        for entry in batch.entries:
            durations[self.rollup.add(entry, now=now)].append(entry.milliseconds)
        for edge, milliseconds in durations.items():
            self.metrics.record(edge, milliseconds)
        overflow = len(durations.get(OVERFLOW, ()))
        self.metrics.received("counted", len(batch.entries) - overflow)
        self.metrics.received("overflow", overflow)
        self.metrics.received("skipped", batch.skipped)
