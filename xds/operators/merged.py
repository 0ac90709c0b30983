"""What several Pilots say of their clients, as one would say it."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from xds.load.status import ClusterLoad

Json = Mapping[str, Any]

_Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, sample and labels."""
_LASTING = frozenset({"counter", "histogram"})
"""Types of metrics whose values only grow."""


def listing(answers: Iterable[Json]) -> dict[str, Any]:
    """Return the clients that ``/api/proxies`` of each Pilot lists; one who is at two, once."""
    proxies: dict[str, dict[str, Any]] = {}
    refusals: list[Any] = []
    omitted = now = 0
    for answer in answers:
        now = max(now, answer["now_unix_ns"])
        omitted += answer["omitted"]
        refusals += answer["refusals"]
        for proxy in answer["proxies"]:
            if (known := proxies.get(proxy["node"])) is None:
                proxies[proxy["node"]] = dict(proxy)
            else:
                rows = [*known["streams"], *proxy["streams"]]
                known["streams"] = sorted(rows, key=lambda s: (s["service"], s["since_unix_ns"]))
    return {
        "now_unix_ns": now,
        "proxies": [proxies[node] for node in sorted(proxies)],
        "refusals": sorted(refusals, key=lambda r: (r["node"], r["type"], r["resource"])),
        "omitted": omitted,
    }


def resources(answers: Sequence[Json]) -> dict[str, Any]:
    """Return the resources of one client, that is connected to each of these Pilots."""
    merged = {**answers[0], "resources": [r for a in answers for r in a["resources"]]}
    if "held" in merged:
        merged["held"] = sum(a["held"] for a in answers)
    return merged


_LOADS = TypeAdapter(tuple[ClusterLoad, ...])


def loads(answers: Sequence[Json]) -> dict[str, Any]:
    """Return what ``/api/load`` of each Pilot says as one answer: clusters added up."""
    found: dict[tuple[str, str], ClusterLoad] = {}
    for answer in answers:
        for load in _LOADS.validate_python(answer["clusters"]):
            key = (load.cluster, load.service)
            found[key] = found[key] + load if key in found else load
    return {
        "clusters": [asdict(found[key]) for key in sorted(found)],
        "nodes": sorted((n for a in answers for n in a["nodes"]), key=lambda n: str(n["node"])),
        "omitted": sum(answer["omitted"] for answer in answers),
    }


class Sums:
    """Metrics of several Pilots added up; what only grows never falls when one of them ends."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}
        self._last: dict[int, dict[_Key, float]] = {}
        self._ended: dict[_Key, float] = {}

    def add(self, texts: Mapping[int, str], silent: Set[int] = frozenset()) -> tuple[Metric, ...]:
        """Return the sums.

        Args:
            texts: The exposition of each Pilot, by a number that is its alone.
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
