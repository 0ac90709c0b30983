"""Prometheus metrics of several processes, added up as one process would tell them."""

from collections.abc import Iterable, Mapping, Set

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, sample and labels."""
_LASTING = frozenset({"counter", "histogram"})
"""Types of metrics whose values only grow."""


class Sums:
    """Metrics of several processes added up; what only grows never falls when one of them ends."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}
        self._last: dict[int, dict[_Key, float]] = {}
        self._ended: dict[_Key, float] = {}

    def add(self, texts: Mapping[int, str], silent: Set[int] = frozenset()) -> tuple[Metric, ...]:
        """Return the sums.

        Args:
            texts: The exposition of each process, by a number that is its alone.
            silent: Those that run and gave none this time; what they counted stays as it was.
        """
        for number in self._last.keys() - texts.keys() - silent:
            for key, value in self._last.pop(number).items():
                self._ended[key] = self._ended.get(key, 0.0) + value
        sums = dict(self._ended)
        for number in self._last.keys() - texts.keys():
            for key, value in self._last[number].items():
                sums[key] = sums.get(key, 0.0) + value
        for number, text in texts.items():
            last = self._last[number] = {}
            for family in text_string_to_metric_families(text):
                self._families.setdefault(family.name, family)
                for sample in family.samples:
                    key = (family.name, sample.name, tuple(sample.labels.items()))
                    sums[key] = sums.get(key, 0.0) + sample.value
                    if family.type in _LASTING:
                        last[key] = sample.value
        made = {n: Metric(n, f.documentation, f.type) for n, f in self._families.items()}
        for (name, sample_name, labels), value in sums.items():
            made[name].add_sample(sample_name, dict(labels), value)
        return tuple(made.values())


class Given(Collector):
    """Metrics that are at hand, for a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def text(families: Iterable[Metric]) -> str:
    """Return metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(Given(families))
    return generate_latest(registry).decode()
