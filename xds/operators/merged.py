"""What several Pilots say of their clients, as one would say it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from xds.load.status import ClusterLoad

Json = Mapping[str, Any]


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
