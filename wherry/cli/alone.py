"""One service by itself, for those who spread Wherry over several processes.

Each part is loaded when it is asked for, so that one starts without what the others need.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.cli import doors, platform
from wherry.cli.ground import Ground, ground
from wherry.cli.owned import short_folder
from wherry.cli.settings import Options, cache_folder
from wherry.cli.state import noted
from wherry.clock import SystemClock
from wherry.errors import StartError
from wherry.serve import Address, serve

if TYPE_CHECKING:
    from xds.server import Serving

logger = logging.getLogger(__name__)

SEVERAL = ("xds", "gateway")
"""The parts that may be several processes."""


def start(part: str, options: Options, said: Callable[[str], None]) -> None:
    """Run ``part`` until SIGTERM or SIGINT; call ``said`` with its address when it serves.

    Raises:
        StartError: There is no such part, or it cannot start.
        ConfigError: The configuration is wrong.
    """
    _checked(part, options)
    factory = None
    if part == "gateway" and not options.workers:
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_run(part, options, said))


def _checked(part: str, options: Options) -> None:
    if part not in _PARTS:
        raise StartError(f"run {part!r}: expected one of {', '.join(_PARTS)}")
    if part not in SEVERAL and (options.workers or options.worker):
        several = " and ".join(SEVERAL)
        raise StartError(
            f"run {part!r}: --workers {options.workers}, expected it only with {several}"
        )
    if part != "xds" and options.transport != "grpc":
        raise StartError(f"run {part!r}: --transport, expected it only with xds")


async def _run(part: str, options: Options, said: Callable[[str], None]) -> None:
    if options.workers:
        await serve([_several(part, options.workers, options, said)])
    elif options.worker:
        from wherry.workers import announce  # noqa: PLC0415

        told = options.worker
        await serve([_running(part, options, lambda _: announce(told))])
    else:
        await serve([_running(part, options, said)])


def _several(
    part: str, workers: int, options: Options, said: Callable[[str], None]
) -> AbstractAsyncContextManager[None]:
    if part == "gateway":
        from wherry.cli import crew  # noqa: PLC0415

        return crew.running(workers, options, said)
    from wherry.cli import several  # noqa: PLC0415

    return several.running(workers, options, said)


@asynccontextmanager
async def _running(part: str, options: Options, said: Callable[[str], None]) -> AsyncIterator[None]:
    async with ground(options) as made, _PARTS[part](made) as addresses:
        for name, address in addresses.items():
            said(f"{name} serves at {address}")
        yield


Part = Callable[[Ground], AbstractAsyncContextManager[Mapping[str, object]]]
"""Runs a part; yields where it serves, and maybe what comes with it."""


@asynccontextmanager
async def _telemetry(made: Ground) -> AsyncIterator[Mapping[str, object]]:
    import telemetry.app  # noqa: PLC0415

    listen = made.options.listen
    settings = telemetry.app.Settings(listen.of("telemetry"), listen.of("metrics"))
    async with (
        doors.house(made) as house,
        telemetry.app.running(settings, clock=SystemClock(), used=house.sidecars.used) as running,
    ):
        yield {"telemetry": running.grpc, "metrics": running.http}


@asynccontextmanager
async def _policy(made: Ground) -> AsyncIterator[Mapping[str, object]]:
    import policy.app  # noqa: PLC0415

    settings = policy.app.Settings(made.options.listen.of("policy"))
    async with (
        doors.house(made) as house,
        policy.app.running(settings, worlds=made.worlds, admission=house.sidecars) as running,
    ):
        yield {"policy": running.address}


@asynccontextmanager
async def _xds(made: Ground) -> AsyncIterator[Mapping[str, object]]:
    import xds.app  # noqa: PLC0415

    options = made.options
    settings = xds.app.Settings(
        options.listen.of("xds"),
        telemetry=options.listen.of("telemetry"),
        policy=options.listen.of("policy"),
        serving=_served(options),
        away=not options.beside,
        pages=_pages(options),
    )
    async with xds.app.running(
        settings, store=made.store, worlds=made.worlds, clock=SystemClock()
    ) as running:
        if not options.worker:  # of several, their parent answers
            logger.info("operators are answered", extra={"address": str(running.pages)})
        yield {"xds": running.address}


def _pages(options: Options) -> Address | Path:
    from wherry.workers import operators  # noqa: PLC0415

    return operators(options.worker) if options.worker else options.listen.of("pilot")


def _served(options: Options) -> "Serving":
    from wherry.workers import HANDOVER_SECONDS  # noqa: PLC0415
    from xds.server import Serving  # noqa: PLC0415

    if options.worker is None:
        return Serving(transport=options.transport)
    return Serving(share=True, handover_seconds=HANDOVER_SECONDS, transport=options.transport)


@asynccontextmanager
async def _faas(made: Ground) -> AsyncIterator[Mapping[str, object]]:
    import faas.app  # noqa: PLC0415
    from faas.backends import chosen  # noqa: PLC0415

    options = made.options
    async with AsyncExitStack() as stack:
        run = stack.enter_context(short_folder())
        backend = await stack.enter_async_context(
            chosen(options.backend, cache=cache_folder(), run=run, kept=platform.snapshots(options))
        )
        running = await stack.enter_async_context(
            faas.app.running(platform.functions(options), made.store, backend, SystemClock())
        )
        yield {"faas": running.address}


@asynccontextmanager
async def _gateway(made: Ground) -> AsyncIterator[Mapping[str, object]]:
    if made.options.worker:
        async with doors.worker(made, made.options.worker) as door:
            yield {"gateway": door.address}
        return
    async with (
        doors.door(made) as door,
        doors.office(made, door.url, door.metrics.told) as office,
    ):
        parts = {"gateway": door.url, "admin": office.admin.url, "portal": office.portal.url}
        with noted(made.options.state, parts):
            yield {"gateway": door.address, "admin": office.admin, "portal": office.portal}


_PARTS: Mapping[str, Part] = {
    "xds": _xds,
    "policy": _policy,
    "telemetry": _telemetry,
    "gateway": _gateway,
    "faas": _faas,
}
