"""The parts of the API gateway, put together the same way for ``wherry up`` and ``wherry run``."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.cli import platform
from wherry.cli.admin_client import TOKEN_FILE
from wherry.cli.ground import Ground
from wherry.cli.settings import Options
from wherry.clock import SystemClock
from wherry.model.world import World

if TYPE_CHECKING:
    import gateway.app
    import gateway.house
    import gateway.office
    from gateway.office import Metrics

MESH = "gateway.sock"
"""Name of the unix socket of the way into the mesh."""


def settings(
    options: Options, lambda_url: str, mesh: Path, *, shared: bool
) -> "gateway.app.Settings":
    """Return what the gateway's door is told.

    Args:
        options: What the operator asked for.
        lambda_url: The Lambda API.
        mesh: Unix socket of the way into the mesh.
        shared: Whether other processes count the same limits.
    """
    from gateway.app import Settings  # noqa: PLC0415
    from wherry.workers import inherited  # noqa: PLC0415

    return Settings(
        address=options.listen.of("gateway"),
        listener=inherited() if options.worker else None,
        lambda_url=lambda_url,
        signer=platform.gateway_signer(options),
        mesh=mesh,
        pepper=options.state / "pepper",
        journal=options.state / "usage",
        settle_seconds=options.settle,
        shared=shared,
    )


def door(made: Ground) -> AbstractAsyncContextManager["gateway.app.Running"]:
    """Run a door that shares its limits with others."""
    from gateway.app import running  # noqa: PLC0415

    return running(
        _settings(made.options), store=made.store, worlds=made.worlds, clock=SystemClock()
    )


@asynccontextmanager
async def worker(made: Ground, told: Path) -> AsyncIterator["gateway.app.Running"]:
    """Run one of several doors; ``told`` is what its parent told it."""
    from gateway.metricspage import answering  # noqa: PLC0415
    from wherry.workers import operators  # noqa: PLC0415

    async with answering(operators(told)) as page, door(made) as running:
        page.render = running.metrics.render
        yield running


def house(made: Ground) -> AbstractAsyncContextManager["gateway.house.House"]:
    """Keep what a gateway decides and records by, without a door."""
    from gateway.house import standing  # noqa: PLC0415

    return standing(
        _settings(made.options),
        origin(made.options, made.worlds.current),
        store=made.store,
        worlds=made.worlds,
        clock=SystemClock(),
    )


def office(
    made: Ground, url: str, metrics: "Metrics"
) -> AbstractAsyncContextManager["gateway.office.Running"]:
    """Keep the office of the doors at ``url`` open; ``metrics`` tells what they count."""
    from gateway.office import running  # noqa: PLC0415

    return running(
        desk(made.options, url),
        store=made.store,
        worlds=made.worlds,
        resources=made.resources,
        clock=SystemClock(),
        metrics=metrics,
    )


def desk(options: Options, url: str) -> "gateway.office.Settings":
    """Return what the gateway's office is told; ``url`` is the door's."""
    from gateway.office import Settings  # noqa: PLC0415

    return Settings(
        pepper=options.state / "pepper",
        token=options.state / TOKEN_FILE,
        admin=options.listen.of("admin"),
        portal=options.listen.of("portal"),
        gateway_url=url,
    )


def origin(options: Options, world: World) -> str:
    """Return the origin of the door that is not here."""
    secure = any(each.spec.tls is not None for each in world.api_gateways.values())
    return f"{'https' if secure else 'http'}://{options.listen.of('gateway')}"


def _settings(options: Options) -> "gateway.app.Settings":
    return settings(options, options.listen.of("lambda").url, options.state / MESH, shared=True)
