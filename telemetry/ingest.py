"""Where entries become counts: the rollup and the metrics, in step."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from telemetry.edge import OVERFLOW, Edge, Entry
from telemetry.metrics import Metrics
from telemetry.rollup import Rollup
from telemetry.wire import Batch

Used = Callable[[Sequence[Entry]], None]
"""Takes the entries that are uses of API products; it does not wait and does not fail."""


class Ingest:
    """Takes batches of entries. One task at a time.

    Args:
        max_edges: See `telemetry.rollup.Rollup`.
        used: Who counts the use of API products; None: nobody.
    """

    def __init__(self, *, max_edges: int = 10_000, used: Used | None = None) -> None:
        self._used = used
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
        if self._used is not None and (uses := [each for each in batch.entries if each.usage]):
            self._used(uses)
