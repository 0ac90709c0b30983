"""The Pilot: keeps each scope's snapshot true to the World, the workloads and the functions."""

import logging
from dataclasses import replace

from wherry.errors import WherryError
from wherry.model.world import World
from xds.builders.scopes import Scope, Surroundings, scope_of, snapshot
from xds.hub import Hub
from xds.node import Node
from xds.registrations import Workload

logger = logging.getLogger(__name__)


class Pilot:
    """Publishes to `hub` whatever an event changes. For one event loop.

    Attributes:
        hub: Where streams get their snapshots.
    """

    def __init__(self, world: World, around: Surroundings) -> None:
        self.hub: Hub[Scope] = Hub(self._scope_of, self._joined)
        self._world, self._around = world, around

    @property
    def world(self) -> World:
        """The World that it serves."""
        return self._world

    @property
    def around(self) -> Surroundings:
        """What else it serves."""
        return self._around

    def adopt_world(self, world: World) -> None:
        """Serve a new World."""
        self._world = world
        self._publish()

    def adopt_workloads(self, workloads: tuple[Workload, ...]) -> None:
        """Serve with these workloads alive."""
        self._around = replace(self._around, workloads=workloads)
        self._publish()

    def adopt_functions(self, functions: frozenset[str]) -> None:
        """Serve with these functions deployed."""
        self._around = replace(self._around, functions=functions)
        self._publish()

    def _publish(self) -> None:
        for scope in self.hub.scopes:
            self._publish_to(scope)

    def _publish_to(self, scope: Scope) -> None:
        try:
            self.hub.publish(scope, snapshot(scope, self._world, self._around))
        except WherryError:
            logger.exception("scope keeps its last good snapshot", extra={"scope": str(scope)})

    def _scope_of(self, node: Node) -> Scope:
        return scope_of(node.id, node.metadata)

    def _joined(self, scope: Scope, node: Node) -> None:
        del node
        self._publish_to(scope)
