"""What a changed resource waits for in Envoy, and therefore goes out again.

Source: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/cluster_manager#cluster-warming
"""

from collections.abc import Iterator

from xds.holdings import Holdings
from xds.resource import WARMED_BY, Resource
from xds.snapshot import Named
from xds.subscription import Batch, Subscription

MOST_COLD = 16
"""How many responses are remembered for the resources that will warm them."""


class Warming:
    """What one client warms."""

    def __init__(self) -> None:
        self._cold: list[Named] = []

    def sent(self, sub: Subscription, batch: Batch, holdings: Holdings) -> None:
        """Send again what a changed resource waits for in Envoy."""
        warmed_by = WARMED_BY.get(sub.type_url)
        if warmed_by is None or batch.beats:
            return
        warmer = holdings.by_type.get(warmed_by)
        if warmer is None:
            if len(self._cold) <= MOST_COLD:
                self._cold.append(batch.changed)
            return
        wanted, held = warmer.wanted.of(batch.goal, warmed_by), warmer.held
        for resource in _changing(sub, batch):
            for type_url, name in resource.refs:
                if type_url == warmed_by and (name in wanted or name in held):
                    warmer.again.add(name)

    def claimed(self, sub: Subscription) -> set[str]:
        """Return which claimed resources warm what was sent before they were subscribed to.

        A client that comes back holds them, and yet Envoy waits for them.
        """
        cold, self._cold = self._cold, []
        if len(cold) > MOST_COLD:
            return set(sub.claims)
        waited_for = {
            name
            for changed in cold
            for each in changed.values()
            for type_url, name in each.refs
            if type_url == sub.type_url
        }
        return waited_for & sub.claims.keys()


def _changing(sub: Subscription, batch: Batch) -> Iterator[Resource]:
    """Yield what a response may change at the client.

    What a refused response left unclear may change back, for this one states it again.
    """
    yield from batch.changed.values()
    if sub.doubt:
        yield from (r for name, r in batch.target.items() if name in sub.doubt)
