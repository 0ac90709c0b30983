"""Wire the gateway together and run it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway import door
from gateway.catalogue import Catalogue
from gateway.house import standing
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.settings import Settings
from gateway.sidecars import Sidecars
from gateway.tls import Certificates
from wherry.clock import Clock, SystemClock
from wherry.config.watch import Worlds
from wherry.model.world import World
from wherry.serve import Address, bound, listening
from wherry.store import Store

__all__ = ["Running", "Settings", "running"]


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that takes calls.

    Attributes:
        address: Where it listens.
        metrics: What it counts of itself.
        sidecars: Answers for products that sidecars enforce.
        secure: Whether clients come by TLS.
    """

    address: Address
    metrics: Metrics
    sidecars: Sidecars
    secure: bool

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{'https' if self.secure else 'http'}://{self.address}"


@asynccontextmanager
async def running(
    settings: Settings, *, store: Store, worlds: Worlds, clock: Clock | None = None
) -> AsyncIterator[Running]:
    """Serve until the block ends; begins once keys are loaded and calls are taken.

    At the end calls under way are finished and all usage is written.

    Args:
        settings: See `Settings`.
        store: Holds keys and usage.
        worlds: Followed; a World with a template that cannot be used is refused and logged,
            and the one before stays.
        clock: Where the time is read; None is the host's.

    Raises:
        StartError: The pepper or the first World cannot be used.
        PortInUse: Another program listens at the address.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        sock = settings.listener or listening("gateway", settings.address)
        stack.callback(sock.close)
        certificates = Certificates(worlds.current)
        secure = certificates.context is not None
        here = f"{'https' if secure else 'http'}://{bound(sock)}"
        house = await stack.enter_async_context(
            standing(settings, here, store=store, worlds=worlds, clock=clock)
        )
        pipeline = Pipeline(house.catalogue, house.parts, clock=clock, most=settings.max_calls)
        _watched(pipeline.metrics, house.sidecars)
        pipeline.metrics.gauge(
            "limit_nodes",
            "Processes that are known to count the same limits; 0: this one is alone.",
            lambda: house.parts.limits.books.nodes,
        )

        def take(world: World, catalogue: Catalogue) -> None:
            pipeline.use(catalogue)
            certificates.take(world)

        house.told.append(take)
        served = door.Settings(
            settings.idle_seconds,
            settings.drain_seconds,
            settings.max_connections,
            certificates.context,
        )
        await stack.enter_async_context(door.open(sock, pipeline, served, clock))
        stack.push_async_callback(_drain, pipeline, settings.settle_seconds)
        yield Running(bound(sock), pipeline.metrics, house.sidecars, secure)


def _watched(metrics: Metrics, sidecars: Sidecars) -> None:
    """Show what becomes of calls at sidecars."""
    for name, text, read in (
        ("admitted", "Calls that sidecars let in.", lambda: sidecars.admitted),
        ("reported", "Of those, the ones whose end is known.", lambda: sidecars.reported),
        (
            "usage_dropped",
            "Calls at sidecars that ended and could not be recorded.",
            lambda: sidecars.dropped,
        ),
        (
            "usage_strange",
            "Reports of calls at sidecars that are not ours, or came before.",
            lambda: sidecars.strange,
        ),
    ):
        metrics.gauge(f"sidecar_{name}", text, read)


async def _drain(pipeline: Pipeline, seconds: float) -> None:
    """Say that an end is near, and give those who ask time to send their calls elsewhere."""
    pipeline.draining = True
    await asyncio.sleep(seconds)
