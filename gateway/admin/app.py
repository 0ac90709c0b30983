"""The admin API on a port of its own: who asks, what they may, and a note of every change."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import metadata
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.admin import access, catalogue, described, openapi, tokens
from gateway.admin.endpoint import ACTOR, NOTE, NOTED, ROLE, Endpoint, Role
from gateway.admin.page import POLICY, page
from gateway.admin.refusals import of_aiohttp, refused
from gateway.connection import answered
from gateway.pepper import pepper
from gateway.problem import Refused, out_of_capacity
from gateway.web import opened
from wherry import audit
from wherry.clock import Clock, SystemClock
from wherry.errors import WherryError
from wherry.resources import Resources
from wherry.serve import Address, bound, listening
from wherry.store import Store
from wherry.web import local_names_only

logger = logging.getLogger(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the admin API listens, and its limits.

    Attributes:
        pepper: File of the secret under which digests of tokens are made.
        address: Where to listen.
        seconds: How long one request may take.
        most_calls: Requests under way at once; more get 503.
        idle_seconds: How long a connection may stay without a request.
    """

    pepper: Path
    address: Address = field(default_factory=lambda: Address(port=8001))
    seconds: float = 30.0
    most_calls: int = 64
    idle_seconds: float = 60.0


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    store: Store,
    resources: Resources,
    endpoints: Sequence[Endpoint] = (),
    clock: Clock | None = None,
) -> AsyncIterator[Address]:
    """Serve until the block ends; yield where.

    Args:
        settings: See `Settings`.
        store: Holds tokens and the audit log.
        resources: The catalogue.
        endpoints: Operations of other parts, beside the catalogue, tokens and the audit log.
        clock: Where the time is read; None is the host's.

    Raises:
        StartError: The pepper cannot be used.
        PortInUse: Another program listens at the address.
    """
    clock = clock or SystemClock()
    secret = await asyncio.to_thread(pepper, settings.pepper)
    known = [
        *catalogue.endpoints(resources),
        *endpoints,
        *access.endpoints(store, secret, clock),
    ]
    door = _Door(settings, store, secret, clock)
    async with AsyncExitStack() as stack:
        sock = listening("admin", settings.address)
        stack.callback(sock.close)
        app = web.Application(
            middlewares=[door.problems, local_names_only(bound(sock)), door.bounded],
            client_max_size=max(each.most_bytes for each in known),
        )
        for each in (*known, *_about(known)):
            methods = ("GET", "HEAD") if each.method == "GET" else (each.method,)
            for method in methods:
                app.router.add_route(method, each.path, door.handler(each))
        await stack.enter_async_context(
            opened(
                app,
                sock,
                idle_seconds=settings.idle_seconds,
                drain_seconds=settings.seconds,
            )
        )
        yield bound(sock)


def _about(known: Sequence[Endpoint]) -> list[Endpoint]:
    """Return what anyone may read: the OpenAPI document, the page, and that we are well."""
    text = json.dumps(openapi.document(known, version=metadata.version("wherry"))).encode()
    html = page(known).encode()

    async def document(_: web.Request) -> web.Response:
        return web.Response(body=text, content_type="application/json")

    async def shown(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        return web.Response(body=html, content_type="text/html", charset="utf-8", headers=headers)

    async def well(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    return [
        Endpoint("GET", "/openapi.json", None, document, described.DOCUMENT),
        Endpoint("GET", "/", None, shown, described.PAGE),
        Endpoint("GET", "/healthz", None, well, described.HEALTH),
    ]


class _Door:
    """What every request passes before its endpoint, and every answer behind it."""

    def __init__(self, settings: Settings, store: Store, secret: bytes, clock: Clock) -> None:
        self._settings, self._store, self._secret = settings, store, secret
        self._clock = clock
        self._under_way = 0

    @property
    def problems(self) -> Middleware:
        @web.middleware
        async def told(request: web.Request, handler: Next) -> web.StreamResponse:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = answered(of_aiohttp(error))
            except WherryError as error:
                refusal = refused(error)
                if refusal is None:
                    raise
                response = answered(refusal)
            except TimeoutError:
                logger.warning("admin request took too long", extra={"method": request.method})
                response = answered(out_of_capacity("The request took too long."))
            except Exception:
                logger.exception("admin request failed")
                detail = "The admin API failed; its log says more."
                response = answered(Refused(HTTPStatus.INTERNAL_SERVER_ERROR, detail))
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return told

    @property
    def bounded(self) -> Middleware:
        @web.middleware
        async def counted(request: web.Request, handler: Next) -> web.StreamResponse:
            if self._under_way >= self._settings.most_calls:
                raise out_of_capacity(f"{self._under_way} requests are under way.")
            self._under_way += 1
            try:
                async with asyncio.timeout(self._settings.seconds):
                    return await handler(request)
            finally:
                self._under_way -= 1

        return counted

    def handler(self, endpoint: Endpoint) -> Next:
        """Return what answers ``endpoint``: checks first, then its own handler, then the note."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if endpoint.role is None:
                return await endpoint.handler(request)
            actor, role = await self._actor(request, endpoint.role)
            request[ACTOR], request[ROLE] = actor, role
            length = request.content_length
            if length is not None and length > endpoint.most_bytes:
                raise web.HTTPRequestEntityTooLarge(endpoint.most_bytes, length)
            request = request.clone(client_max_size=endpoint.most_bytes)
            response = await endpoint.handler(request)
            if endpoint.method not in {"GET", "HEAD"} and NOTED not in request:
                await self._note(request, endpoint)
            return response

        return handle

    async def _actor(self, request: web.Request, role: Role) -> tuple[str, Role]:
        """Return who asks, and what they may.

        Raises:
            Refused: 401 for no token that is accepted, 403 for one that may not.

        Source: RFC 6750
        """
        field = request.headers.get("Authorization", "")
        scheme, _, text = field.partition(" ")
        token = None
        if scheme.lower() == "bearer" and len(request.headers.getall("Authorization")) == 1:
            now = self._clock.unix_ns()
            token = await tokens.bearer(self._store, self._secret, text.strip(), now_ns=now)
        if token is None:
            error = ', error="invalid_token"' if field else ""
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "Expected Authorization: Bearer with a token of the admin API.",
                headers={"WWW-Authenticate": f'Bearer realm="wherry admin"{error}'},
            )
        if token.role < role:
            needed = role.name.lower()
            detail = f"The token has the role {token.role.name.lower()}, expected {needed}."
            challenge = f'Bearer realm="wherry admin", error="insufficient_scope", scope="{needed}"'
            raise Refused(HTTPStatus.FORBIDDEN, detail, headers={"WWW-Authenticate": challenge})
        return token.name, token.role

    async def _note(self, request: web.Request, endpoint: Endpoint) -> None:
        """Note a change; a handler may say more in ``request[NOTE]``.

        That is the subject and what was before and is after; without, the path is the subject.
        """
        subject, before, after = request.get(NOTE, (request.path, None, None))
        verb = str(endpoint.operation.get("operationId", endpoint.method.lower()))
        await audit.noted(
            self._store,
            at_ns=self._clock.unix_ns(),
            actor=request[ACTOR],
            verb=verb,
            subject=subject,
            before=before,
            after=after,
        )
