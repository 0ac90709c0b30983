"""Wire the portal together and run it."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from gateway.pepper import pepper
from gateway.portal.accounts import Accounts
from gateway.portal.attempts import Attempts, SignIns
from gateway.portal.entrance import failures, visits
from gateway.portal.pages import (
    account,
    comparing,
    door,
    invoices,
    keys,
    products,
    reading,
    trying,
    usage,
)
from gateway.portal.parts import Parts
from gateway.portal.reference.document import Shelf
from gateway.portal.relay import Relay
from gateway.portal.sessions import Sessions
from gateway.portal.site import Site
from gateway.portal.subscribed import Index
from gateway.tasks import given_up
from gateway.web import opened
from wherry.clock import Clock, SystemClock
from wherry.config.watch import Worlds
from wherry.errors import WherryError
from wherry.serve import Address, bound, listening
from wherry.store import Store
from wherry.web import local_names_only

logger = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")

_MAX_REQUEST = 512 << 10
_WINDOW = 900.0
_SWEEP = 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the portal listens and what it needs.

    Attributes:
        pepper: File of the secret that digests are made under; the gateway's.
        address: Where to listen.
        secure: Whether browsers come by TLS.
        sign_ins: Failed sign-ins in 15 minutes; see `gateway.portal.attempts.SignIns`. Each
            process counts for itself, as with ``sign_ups``.
        sign_ups: Sign-ups from an address in 15 minutes.
        idle_seconds: How long a connection may stay without a request.
        drain_seconds: How long answers under way may take when the portal stops.
    """

    pepper: Path
    address: Address = field(default_factory=lambda: Address(port=8002))
    secure: bool = False
    sign_ins: int = 10
    sign_ups: int = 20
    idle_seconds: float = 75.0
    drain_seconds: float = 5.0


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    store: Store,
    worlds: Worlds,
    parts: Parts,
    gateway_url: str,
    clock: Clock | None = None,
) -> AsyncIterator[Address]:
    """Serve until the block ends; yields where.

    Args:
        settings: See `Settings`.
        store: Holds accounts and sessions.
        worlds: What is on offer, as it stands.
        parts: What the rest of the gateway does for the portal.
        gateway_url: Origin of the gateway, where calls are tried.
        clock: Where the time is read; None is the host's.

    Raises:
        StartError: The pepper cannot be used.
        PortInUse: Another program listens at the address.
    """
    clock = clock or SystemClock()
    secret = hmac.digest(await asyncio.to_thread(pepper, settings.pepper), b"portal", "sha256")
    sessions = Sessions(store, secret, clock)
    async with AsyncExitStack() as stack:
        sock = listening("portal", settings.address)
        stack.callback(sock.close)
        site = Site(
            worlds=worlds,
            parts=parts,
            accounts=Accounts(store, secret, clock),
            sessions=sessions,
            shelf=Shelf(),
            relay=await stack.enter_async_context(Relay.open(gateway_url, clock)),
            clock=clock,
            index=Index(),
            sign_ins=SignIns(settings.sign_ins, _WINDOW),
            sign_ups=Attempts(settings.sign_ups, _WINDOW),
            gateway_url=gateway_url,
            secure=settings.secure,
        )
        await stack.enter_async_context(
            opened(
                application(site, bound(sock)),
                sock,
                idle_seconds=settings.idle_seconds,
                drain_seconds=settings.drain_seconds,
            )
        )
        group = await stack.enter_async_context(given_up())
        group.create_task(_sweep(sessions), name="portal: sweep sessions")
        yield bound(sock)


def application(site: Site, address: Address) -> web.Application:
    """Return the portal's routes."""
    app = web.Application(
        client_max_size=_MAX_REQUEST,
        middlewares=[failures(site), local_names_only(address), visits(site)],
    )
    for each in (door, products, comparing, keys, reading, trying, usage, invoices, account):
        app.router.add_routes(each.routes(site))
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/static/{file}", _static)
    return app


async def _healthz(_: web.Request) -> web.StreamResponse:
    return web.Response(text="ok\n")


async def _static(request: web.Request) -> web.StreamResponse:
    kind = _KINDS.get(request.match_info["file"])
    if kind is None:
        raise web.HTTPNotFound(text="There is no such file.")
    path = STATIC / request.match_info["file"]
    headers = {"Content-Type": kind, "Cache-Control": "no-cache"}
    return web.FileResponse(path, headers=headers)


_KINDS = {
    "portal.css": "text/css; charset=utf-8",
    "portal.js": "text/javascript; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "trying.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


async def _sweep(sessions: Sessions) -> None:
    while True:
        try:
            await sessions.sweep()
        except WherryError:
            logger.exception("sessions cannot be swept")
        await asyncio.sleep(_SWEEP)
