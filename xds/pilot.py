"""The Pilot: keeps each scope's snapshot true to the World, the workloads and the functions."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from wherry.errors import WherryError
from wherry.model.world import World
from xds.builders.compiler import Compiler
from xds.builders.scopes import (
    EgressScope,
    GatewayScope,
    ProxylessScope,
    Scope,
    SidecarScope,
    Surroundings,
    scope_of,
)
from xds.debounce import Debounce
from xds.health.check import BadCheck, ClusterChecks, Target
from xds.hub import Hub
from xds.node import Node
from xds.registrations import Workload

logger = logging.getLogger(__name__)

Ask = Callable[[tuple[ClusterChecks, ...]], None]
"""Has exactly these endpoints checked from now on; raises `BadCheck` where that cannot be."""

FORGET = 256
"""After so many scopes that joined, what was built for scopes that left is forgotten."""


class Pilot:
    """Publishes to `hub` whatever an event changes. For one event loop.

    The first change after quiet goes out at once; under a storm, changes are collected for
    10 to 100 ms and published by `collect`. Workloads that come and go, or turn well or unwell,
    never wait.

    Attributes:
        hub: Where streams get their snapshots.
    """

    def __init__(self, world: World, around: Surroundings, check: Ask | None = None) -> None:
        """Begin with a World and its surroundings.

        Args:
            world: What is served first.
            around: What else.
            check: Told all that is to be checked, first now and then whenever it changes.
        """
        self.hub: Hub[Scope] = Hub(self._scope_of, self._joined)
        self._world, self._around = world, around
        self._next: tuple[World, frozenset[str]] = world, around.functions
        self._compiler = Compiler(world, around)
        self._debounce = Debounce()
        self._waiting = asyncio.Event()
        self._joins = 0
        self._check = check
        self._asked: tuple[ClusterChecks, ...] = ()
        self._ask()

    @property
    def world(self) -> World:
        """The World that it serves."""
        return self._world

    @property
    def around(self) -> Surroundings:
        """What else it serves."""
        return self._around

    def adopt_world(self, world: World) -> None:
        """Serve a new World, now or soon."""
        self._next = world, self._next[1]
        self._soon()

    def adopt_workloads(self, workloads: tuple[Workload, ...]) -> None:
        """Serve with these workloads alive, now."""
        self._around = replace(self._around, workloads=workloads)
        self._publish()

    def adopt_unhealthy(self, unhealthy: frozenset[Target]) -> None:
        """Serve with these endpoints getting no requests, now."""
        if unhealthy == self._around.unhealthy:
            return
        self._around = replace(self._around, unhealthy=unhealthy)
        self._publish()

    def adopt_functions(self, functions: frozenset[str]) -> None:
        """Serve with these functions deployed, now or soon."""
        self._next = self._next[0], functions
        self._soon()

    def prepare(self) -> None:
        """Build what clients of each kind would get, so that the first to come need not wait."""
        gateway = min(self._world.gateways, default="none")
        compiler = Compiler(self._world, self._around)
        for scope in (
            SidecarScope(min(self._world.services, default="none"), "v1", 1, 2, 3),
            GatewayScope(gateway, ()),
            EgressScope("/"),
            ProxylessScope(),
        ):
            with suppress(WherryError):  # told when a client of that kind comes
                compiler.snapshot(scope)

    async def collect(self) -> None:
        """Publish what a storm has left to wait, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._waiting.wait()
            await asyncio.sleep(max(0.0, (self._debounce.due or 0.0) - loop.time()))
            if self._waiting.is_set():
                self._adopt()

    def _soon(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._debounce.changed(now) <= now:
            self._adopt()
        else:
            self._waiting.set()

    def _adopt(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._waiting.clear()
        self._world, functions = self._next
        self._around = replace(self._around, functions=functions)
        self._publish()
        self._debounce.published(began, loop.time())

    def _publish(self) -> None:
        self._compiler.update(self._world, self._around)
        for scope in self.hub.scopes:
            self._publish_to(scope)
        self._compiler.keep(self.hub.scopes)
        self._ask()

    def _ask(self) -> None:
        """Have checked what is to be checked, if that is another than before."""
        if self._check is None or self._compiler.checks is self._asked:
            return
        self._asked = self._compiler.checks
        try:
            self._check(self._asked)
        except BadCheck as error:
            logger.error("checks stay as they were", extra={"reason": str(error)})  # noqa: TRY400

    def _publish_to(self, scope: Scope) -> None:
        try:
            self.hub.publish(scope, self._compiler.snapshot(scope))
        except WherryError:
            logger.exception("scope keeps its last good snapshot", extra={"scope": str(scope)})

    def _scope_of(self, node: Node) -> Scope:
        return scope_of(node.id, node.metadata)

    def _joined(self, scope: Scope, node: Node) -> None:
        del node
        self._joins += 1
        if self._joins % FORGET == 0:
            self._compiler.keep(self.hub.scopes)
        self._publish_to(scope)
