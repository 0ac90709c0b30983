"""The Pilot's own server with ready resources: `CLUSTERS SCOPES`.

With no scopes every node gets the same snapshot; otherwise each of so many scopes has a listener
and routes of its own over the shared clusters and endpoints.
"""

import asyncio
import sys
from collections.abc import Mapping

from parts.control import answering
from parts.samples import CLUSTER, ENDPOINT, changing, listener, routes, watched, world
from wherry.clock import SystemClock
from wherry.serve import Address, collect_rarely
from wherry.store.memory import MemoryStore
from xds.hub import Hub
from xds.limits import Limits
from xds.node import Node
from xds.registrations import Registry
from xds.server import serving
from xds.snapshot import Layer, Snapshot


class Pushes:
    """What each scope gets, and its changes."""

    def __init__(self, clusters: int, scopes: int) -> None:
        self.hub: Hub[int] = Hub(self._scope_of)
        everything = world(clusters)
        shared = [r for r in everything if r.type_url in {CLUSTER, ENDPOINT}]
        self._scopes = scopes
        self._shared = Layer.of(shared if scopes else everything)
        port = listener(10_000)
        leads = [routes(f"svc-{number}") for number in range(1, clusters + 1)]
        self._own: Mapping[int, tuple[Layer, ...]] = {0: ()}
        if scopes:
            self._own = {n: (Layer.of([port, leads[n % clusters]]),) for n in range(scopes)}
        self._publish()

    def push(self, variant: str, what: str, turn: int) -> None:
        """Change one resource and publish to every scope."""
        del variant
        changed = watched(turn) if what == "endpoint" else changing(turn)
        self._shared = self._shared.changed(put=[changed])
        self._publish()

    def _publish(self) -> None:
        for scope, own in self._own.items():
            self.hub.publish(scope, Snapshot.stacked(self._shared, *own))

    def _scope_of(self, node: Node) -> int:
        return int(node.id.rpartition("-")[2]) % self._scopes if self._scopes else 0


async def main(clusters: int, scopes: int) -> None:
    """Serve until stdin closes."""
    collect_rarely()  # as `wherry run xds` does
    pushes = Pushes(clusters, scopes)
    registry = Registry(MemoryStore(), SystemClock())
    async with serving(Address(), pushes.hub, registry, limits=Limits()) as server:
        await answering({"port": lambda: server.address.port, "push": pushes.push})


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
