"""Who checks what: a few checkers for each endpoint, as evenly as hashing does it.

When a checker comes or goes only its share moves (consistent hashing).

Source: Karger et al., Consistent Hashing and Random Trees, 1997
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b

from xds.health.check import ClusterChecks, Endpoint, Place

_POINTS = 16
"""Places of each checker on the ring; more spread the load more evenly."""


def plan(
    checkers: Iterable[str], clusters: Iterable[ClusterChecks], *, copies: int
) -> Mapping[str, tuple[ClusterChecks, ...]]:
    """Return what each of ``checkers`` checks; one that checks nothing is left out.

    Args:
        checkers: Node ids.
        clusters: All that is to be checked; no cluster twice.
        copies: How many checkers look at each endpoint, where there are as many (1 or more).
    """
    names = frozenset(checkers)
    ring = sorted((_hash(f"{name}/{point}"), name) for name in names for point in range(_POINTS))
    if not ring:
        return {}
    found: defaultdict[str, list[ClusterChecks]] = defaultdict(list)
    for cluster in clusters:
        shares: defaultdict[str, list[tuple[Endpoint, Place]]] = defaultdict(list)
        for endpoint, place in cluster.endpoints:
            key = f"{cluster.cluster}/{endpoint}"
            for checker in _next_on(ring, _hash(key), min(copies, len(names))):
                shares[checker].append((endpoint, place))
        for checker, endpoints in shares.items():
            found[checker].append(replace(cluster, endpoints=tuple(endpoints)))
    return {checker: tuple(share) for checker, share in found.items()}


def _next_on(ring: list[tuple[int, str]], point: int, count: int) -> list[str]:
    found: dict[str, None] = {}
    at = bisect(ring, (point, ""))
    while len(found) < count:
        found[ring[at % len(ring)][1]] = None
        at += 1
    return list(found)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
