"""One service by itself, for those who spread Wherry over several processes.

Each part is loaded when it is asked for, so that one starts without what the others need.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.cli import platform
from wherry.cli.owned import owned, short_folder
from wherry.cli.settings import Options, cache_folder
from wherry.clock import SystemClock
from wherry.config import load
from wherry.config.watch import Worlds, watch
from wherry.errors import StartError
from wherry.serve import Address, serve
from wherry.store import Store, opened

if TYPE_CHECKING:
    from xds.server import Serving

logger = logging.getLogger(__name__)


async def run(part: str, options: Options, said: Callable[[str], None]) -> None:
    """Run ``part`` until SIGTERM or SIGINT; call ``said`` with its address when it serves.

    Raises:
        StartError: There is no such part, or it cannot start.
        ConfigError: The configuration is wrong.
    """
    if part not in _PARTS:
        raise StartError(f"run {part!r}: expected one of {', '.join(_PARTS)}")
    if part != "xds" and (options.workers or options.worker):
        raise StartError(f"run {part!r}: --workers {options.workers}, expected it only with xds")
    if part != "xds" and options.transport != "grpc":
        raise StartError(f"run {part!r}: --transport, expected it only with xds")
    if options.workers:
        from wherry.cli import several  # noqa: PLC0415

        await serve([several.running(options.workers, options, said)])
    elif options.worker:
        from wherry.workers import announce  # noqa: PLC0415

        told = options.worker
        await serve([_running(part, options, lambda _: announce(told))])
    else:
        await serve([_running(part, options, said)])


@asynccontextmanager
async def _running(part: str, options: Options, said: Callable[[str], None]) -> AsyncIterator[None]:
    worlds = Worlds(load(options.source))
    async with AsyncExitStack() as stack:
        options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = await stack.enter_async_context(opened(f"sqlite:{options.state / 'wherry.db'}"))
        tasks = await stack.enter_async_context(owned())
        address = await stack.enter_async_context(_PARTS[part](options, store, worlds))
        tasks.spawn(watch(options.source, worlds), "configuration")
        said(f"{part} serves at {address}")
        yield


Part = Callable[[Options, Store, Worlds], AbstractAsyncContextManager[Address]]


@asynccontextmanager
async def _telemetry(options: Options, _store: Store, _worlds: Worlds) -> AsyncIterator[Address]:
    import telemetry.app  # noqa: PLC0415

    settings = telemetry.app.Settings(options.listen.of("telemetry"), options.listen.of("metrics"))
    async with telemetry.app.running(settings, clock=SystemClock()) as running:
        yield running.http


@asynccontextmanager
async def _policy(options: Options, _store: Store, worlds: Worlds) -> AsyncIterator[Address]:
    import policy.app  # noqa: PLC0415

    settings = policy.app.Settings(options.listen.of("policy"))
    async with policy.app.running(settings, worlds=worlds) as running:
        yield running.address


@asynccontextmanager
async def _xds(options: Options, store: Store, worlds: Worlds) -> AsyncIterator[Address]:
    import xds.app  # noqa: PLC0415

    settings = xds.app.Settings(
        options.listen.of("xds"),
        telemetry=options.listen.of("telemetry"),
        policy=options.listen.of("policy"),
        serving=_served(options),
        away=not options.beside,
        pages=_pages(options),
    )
    async with xds.app.running(
        settings, store=store, worlds=worlds, clock=SystemClock()
    ) as running:
        if not options.worker:  # of several, their parent answers
            logger.info("operators are answered", extra={"address": str(running.pages)})
        yield running.address


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
async def _faas(options: Options, store: Store, _worlds: Worlds) -> AsyncIterator[Address]:
    import faas.app  # noqa: PLC0415
    from faas.backends import chosen  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        run = stack.enter_context(short_folder())
        backend = await stack.enter_async_context(
            chosen(options.backend, cache=cache_folder(), run=run, kept=platform.snapshots(options))
        )
        running = await stack.enter_async_context(
            faas.app.running(platform.functions(options), store, backend, SystemClock())
        )
        yield running.address


@asynccontextmanager
async def _gateway(options: Options, store: Store, worlds: Worlds) -> AsyncIterator[Address]:
    import gateway.app  # noqa: PLC0415

    settings = gateway.app.Settings(
        address=options.listen.of("gateway"),
        lambda_url=options.listen.of("lambda").url,
        signer=platform.gateway_signer(options),
        mesh=options.state / "gateway.sock",
        pepper=options.state / "pepper",
    )
    async with gateway.app.running(
        settings, store=store, worlds=worlds, clock=SystemClock()
    ) as running:
        yield running.address


_PARTS: Mapping[str, Part] = {
    "xds": _xds,
    "policy": _policy,
    "telemetry": _telemetry,
    "gateway": _gateway,
    "faas": _faas,
}
