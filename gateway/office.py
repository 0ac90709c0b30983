"""What stands beside the door: the admin API, the portal, and the work that nobody waits for.

One for each Store is enough, however many doors there are; with several, leases see to it that
rollups and invoices are made once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

import gateway.admin.app
import gateway.portal.app
from gateway.admin.endpoint import Endpoint
from gateway.admin.first import first_token
from gateway.authn import endpoints as keys
from gateway.billing import endpoints as billing
from gateway.billing.biller import Biller
from gateway.billing.desk import Desk
from gateway.billing.source import Metered
from gateway.metering import endpoints as metering
from gateway.metering.roller import Roller
from gateway.pepper import pepper
from gateway.portal import backing
from gateway.tasks import owned
from gateway.traffic import endpoints as traffic
from wherry.clock import Clock
from wherry.config.watch import Worlds
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store import Store

Metrics = Callable[[], Awaitable[str]]
"""Returns what the doors count of themselves, in Prometheus' text format."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the office is.

    Attributes:
        pepper: File of the secret under which digests are made; the door's.
        token: File in which the owner of the machine finds an owner's token.
        admin: Where the admin API listens.
        portal: Where the portal listens.
        gateway_url: Origin of the door, where the portal tries calls.
    """

    pepper: Path
    token: Path
    admin: Address = field(default_factory=lambda: Address(port=8001))
    portal: Address = field(default_factory=lambda: Address(port=8002))
    gateway_url: str = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Running:
    """An office that is open.

    Attributes:
        admin: Where the admin API listens.
        portal: Where the portal listens.
    """

    admin: Address
    portal: Address


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    store: Store,
    worlds: Worlds,
    resources: Resources,
    clock: Clock,
    metrics: Metrics | None = None,
) -> AsyncIterator[Running]:
    """Keep the office open until the block ends.

    Args:
        settings: See `Settings`.
        store: The one of the doors.
        worlds: Followed by the doors, too.
        resources: Writes what ``worlds`` then shows.
        clock: Where the time is read.
        metrics: See `Metrics`; None: there is no door here.

    Raises:
        StartError: The pepper or the token's file cannot be used.
        PortInUse: Another program listens at one of the addresses.
    """
    secret = await asyncio.to_thread(pepper, settings.pepper)
    await first_token(store, secret, settings.token, clock)
    world = lambda: worlds.current  # noqa: E731
    endpoints = [
        *keys.endpoints(store, secret, world, clock),
        *metering.endpoints(store, world, clock),
        *traffic.endpoints(store),
        *billing.endpoints(Desk(store, clock)),
        *([_metrics(metrics)] if metrics else []),
    ]
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(owned())
        for work, name in (
            (Roller(store, clock).run(), "gateway: roll usage up"),
            (Biller(store, Metered(store), clock).run(worlds), "gateway: bill"),
        ):
            stack.callback(group.create_task(work, name=name).cancel)
        admin = await stack.enter_async_context(
            gateway.admin.app.running(
                gateway.admin.app.Settings(settings.pepper, settings.admin),
                store=store,
                resources=resources,
                endpoints=endpoints,
                clock=clock,
            )
        )
        portal = await stack.enter_async_context(
            gateway.portal.app.running(
                gateway.portal.app.Settings(settings.pepper, settings.portal),
                store=store,
                worlds=worlds,
                parts=backing.parts(
                    store=store, worlds=worlds, resources=resources, pepper=secret, clock=clock
                ),
                gateway_url=settings.gateway_url,
                clock=clock,
            )
        )
        yield Running(admin, portal)


def _metrics(told: Metrics) -> Endpoint:
    async def shown(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=HTTPStatus.OK,
            text=await told(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    operation = {
        "operationId": "getMetrics",
        "summary": "Metrics of the gateway, in Prometheus' text format",
        "tags": ["operation"],
        "responses": {"200": {"description": "The metrics", "content": {"text/plain": {}}}},
    }
    return Endpoint("GET", "/metrics", None, shown, operation)
