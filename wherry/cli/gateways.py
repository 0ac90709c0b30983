"""The Envoys at the edge: one for each `Gateway` of the current World."""

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from wherry.cli.envoys import POLL, Envoy, kept, serving
from wherry.cli.programs import Progress, Start
from wherry.cli.settings import INGRESS
from wherry.errors import StartError
from wherry.model.route import Gateway
from wherry.model.world import World
from wherry.serve import Address, bound, reserved

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Edge:
    ports: frozenset[int]
    held: ExitStack
    task: asyncio.Task[object]


@dataclass(slots=True)
class Gateways:
    """Envoys that follow the `Gateway`s; one whose ports change is started anew.

    Attributes:
        xds: Where the Pilot listens.
        run: Short-named folder for the Envoys' files.
        moved: Where the operator wants the first listener, or None: where its `Gateway` says.
        free_ports: Let the kernel choose every other port.
        start: Starts a task under a name and owns it.
        progress: Told what is being started.
        first: Where the first listener is, once there is one.
    """

    xds: Address
    run: Path
    moved: Address | None
    free_ports: bool
    start: Start
    progress: Progress
    first: Address | None = None
    _running: dict[str, _Edge] = field(default_factory=dict)

    async def become(self, world: World) -> None:
        """Start, end and start anew until each gateway of ``world`` has its Envoy, serving.

        Raises:
            PortInUse: Another program has a listener's port; the other gateways serve.
            StartError: An Envoy did not serve.
        """
        failures: list[StartError] = []
        wanted = {name: _ports(gateway) for name, gateway in world.gateways.items()}
        for name, edge in list(self._running.items()):
            if wanted.get(name) != edge.ports:
                await self._end(name)
        for name, ports in wanted.items():
            if name not in self._running:
                try:
                    await self._begin(name, ports)
                except StartError as error:
                    failures.append(error)
        if failures:
            raise failures[0]

    async def _end(self, name: str) -> None:
        edge = self._running.pop(name)
        edge.task.cancel()
        await asyncio.wait([edge.task])
        edge.held.close()
        logger.info("gateway %s ended", name)

    async def _begin(self, name: str, ports: frozenset[int]) -> None:
        self.progress(f"ingress Envoy {name}")
        with ExitStack() as held:
            opened = {}
            for port in sorted(ports):
                sock = held.enter_context(reserved(INGRESS, self._wanted(port)))
                self.first = self.first or bound(sock)
                opened[str(port)] = bound(sock).port
            host = self.moved.host if self.moved else Address().host
            metadata = {"role": "gateway", "gateway": name, "ports": opened, "address": host}
            spec = Envoy(f"gateway~{name}", metadata, self.xds, self.run)
            task = await begun(spec, self.start)
            self._running[name] = _Edge(ports, held.pop_all(), task)

    def _wanted(self, port: int) -> Address:
        host = self.moved.host if self.moved else Address().host
        if self.first is None and self.moved is not None:
            return self.moved
        return Address(host, 0 if self.free_ports else port)


def _ports(gateway: Gateway) -> frozenset[int]:
    return frozenset(listener.port for listener in gateway.spec.listeners)


async def begun(spec: Envoy, start: Start) -> asyncio.Task[object]:
    """Keep an Envoy running; return its task when it first serves.

    Raises:
        StartError: It did not.
    """
    ready = asyncio.Event()
    failures: list[StartError] = []

    async def life() -> None:
        async with serving(spec) as process:
            ready.set()
            await process.wait()

    async def lives() -> None:
        try:
            await kept(spec.node, life, first=ready)
        except StartError as error:  # for who asked; the other tasks of the owner go on
            failures.append(error)

    task = start(lives(), spec.node)
    while not ready.is_set() and not task.done():
        await asyncio.wait([task], timeout=POLL)
    if failures:
        raise failures[0]
    if task.done():
        task.result()
    return task
