"""The Pilot over HTTP: discovery by REST, metrics, and what operators ask."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.model.world import World
from wherry.serve import Address, bound, listening
from wherry.web import local_names_only
from xds import wire
from xds.hub import Hub
from xds.load.status import NodeLoad, by_cluster
from xds.operators.fleet import MOST_SHOWN, Fleet, Listing, NoStream, UnknownProxy
from xds.operators.inspect import BY_SHORT, Standing
from xds.operators.metrics import exposition
from xds.operators.report import configuration, difference
from xds.resource import TypeUrl
from xds.rest.polls import Polls
from xds.rest.protojson import Unreadable
from xds.rest.requests import Answers, request_bytes
from xds.services import BY_PATH, DiscoveryService
from xds.sotw import Request
from xds.streams import Streams

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SWEEP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one HTTP port takes on.

    Attributes:
        body_bytes: Longest request; an Envoy lists all of its extensions in each.
        polls: Requests for discovery that are worked on at once; more get 503.
        questions: The same for metrics and what operators ask.
        seconds: Longest that one request may take, its body included.
        idle_seconds: Longest that a connection stays without a request.
        refresh_seconds: How often clients that poll are told to ask for what resources refer to.
    """

    body_bytes: int = 1 << 20
    polls: int = 64
    questions: int = 4
    seconds: float = 30.0
    idle_seconds: float = 75.0
    refresh_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """What the port tells about.

    Attributes:
        streams: The discovery streams.
        hub: What each client should have.
        world: Returns the World that is served.
        clock: Where times are read.
        loads: Returns what clients report of the requests that they send; read one by one.
    """

    streams: Streams
    hub: Hub[Any]
    world: Callable[[], World]
    clock: Clock
    loads: Callable[[], Iterable[NodeLoad]] = tuple


@asynccontextmanager
async def pages(
    where: Address | Path, known: Known, limits: Limits | None = None
) -> AsyncIterator[Address | Path]:
    """Serve at ``where``, an address or the path of a unix socket, until the block ends.

    Raises:
        PortInUse: Another program listens there.
    """
    limits = limits or Limits()
    polls = Polls(known.hub, known.clock)
    site = _Site(known, polls, limits)
    runner = web.AppRunner(
        site.application(where),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=limits.idle_seconds,
    )
    sock = _unix(where) if isinstance(where, Path) else listening("pilot", where)
    try:
        await runner.setup()
        await web.SockSite(runner, sock, backlog=128).start()
        async with asyncio.TaskGroup() as group:
            sweeping = group.create_task(_sweep(polls), name="xds/polls")
            try:
                yield where if isinstance(where, Path) else bound(sock)
            finally:
                sweeping.cancel()
    finally:
        await runner.cleanup()
        sock.close()
        polls.close()


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.setblocking(False)
    return sock


async def _sweep(polls: Polls) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        polls.sweep()


@dataclass(slots=True)
class _Site:
    known: Known
    polls: Polls
    limits: Limits
    fleet: Fleet = field(init=False)
    answers: Answers = field(init=False)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        known = self.known
        self.fleet = Fleet(known.streams, self.polls, known.hub, known.world)
        self.answers = Answers(self.limits.refresh_seconds)

    def application(self, where: Address | Path) -> web.Application:
        limits = self.limits
        checked = [] if isinstance(where, Path) else [local_names_only(where, beside=("/v3/",))]
        app = web.Application(client_max_size=limits.body_bytes, middlewares=checked)
        polling, asking = (
            Gate(limits.polls, limits.seconds),
            Gate(limits.questions, limits.seconds),
        )
        app.router.add_post("/v3/{service}", polling.around(self.discovery))
        app.router.add_get("/metrics", asking.around(self.metrics))
        app.router.add_get("/api/proxies", asking.around(self.listing))
        app.router.add_get("/api/proxies/{node}", asking.around(self.one))
        app.router.add_get("/api/proxies/{node}/config", asking.around(self.config))
        app.router.add_get("/api/proxies/{node}/diff", asking.around(self.diff))
        app.router.add_get("/api/load", asking.around(self.load))
        app.router.add_get("/healthz", _healthz)
        return app

    async def discovery(self, request: web.Request) -> web.Response:
        service = BY_PATH.get(request.path)
        if service is None or service.type_url is None:
            return _problem(404, f"path {request.path}: expected one of {', '.join(BY_PATH)}")
        try:
            return await self._discovered(service, service.type_url, await request.read())
        except Unreadable as error:
            logger.error("no answer by REST", extra={"reason": str(error)})  # noqa: TRY400
            return _problem(500, str(error))
        except WherryError as error:
            self.known.streams.tally.refused["bad request"] += 1
            return _problem(400, str(error))

    async def _discovered(
        self, service: DiscoveryService, type_url: TypeUrl, text: bytes
    ) -> web.Response:
        raw = await asyncio.to_thread(request_bytes, text)
        asked, node = wire.request_from(raw)
        if node is None or not node.id:
            raise wire.BadRequest("request: no node, expected a node with id")
        asked = Request(type_url, asked.names, asked.nonce, asked.error, asked.version)
        streams = self.known.streams
        if self.polls.asked(node, asked):
            streams.tally.nacks[type_url] += 1
        found = streams.fetch(raw, type_url)
        if found is None:
            return web.Response(status=304)
        async with self.writing:
            answer = await asyncio.to_thread(self.answers.answer, found)
        self.polls.answered(node, asked, answer.version, len(answer.text))
        streams.tally.sent_bytes[type_url] += len(answer.text)
        return web.Response(body=answer.text, content_type="application/json")

    async def metrics(self, request: web.Request) -> web.Response:
        seen = await self.fleet.seen()
        accept = request.headers.get("Accept", "")
        loads = await asyncio.to_thread(by_cluster, await self._loads())
        content_type, text = exposition(self.known.streams.tally, seen, accept, loads)
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def listing(self, _: web.Request) -> web.Response:
        return await self._answer(await self.fleet.listing())

    async def one(self, request: web.Request) -> web.Response:
        return await self._answer(await self.fleet.one(self._node(request)))

    async def config(self, request: web.Request) -> web.Response:
        node, found = await self._standings(request)
        bodies = request.query.get("bodies") != "false"
        rows = await asyncio.to_thread(lambda: list(configuration(found, bodies=bodies)))
        return await _json({"node": node, "resources": rows})

    async def diff(self, request: web.Request) -> web.Response:
        node, found = await self._standings(request)
        world = self.known.world()
        rows = await asyncio.to_thread(lambda: list(difference(found, world)))
        return await _json({"node": node, "resources": rows, "held": len(found) - len(rows)})

    async def load(self, _: web.Request) -> web.Response:
        nodes = await self._loads()
        clusters = await asyncio.to_thread(lambda: list(map(asdict, by_cluster(nodes))))
        rows = await asyncio.to_thread(lambda: list(map(asdict, nodes[:MOST_SHOWN])))
        omitted = max(0, len(nodes) - MOST_SHOWN)
        return await _json({"clusters": clusters, "nodes": rows, "omitted": omitted})

    async def _loads(self) -> list[NodeLoad]:
        nodes: list[NodeLoad] = []
        for node in self.known.loads():
            nodes.append(node)
            await asyncio.sleep(0)  # others get their turn
        return nodes

    async def _standings(
        self, request: web.Request
    ) -> tuple[str, tuple[tuple[str, Standing], ...]]:
        node, only = self._node(request), _type(request)
        try:
            return node, await self.fleet.standings(node, only)
        except NoStream as error:
            raise web.HTTPConflict(
                text=json.dumps({"error": str(error)}), content_type="application/json"
            ) from None

    def _node(self, request: web.Request) -> str:
        try:
            return self.fleet.named(request.match_info["node"])
        except UnknownProxy as error:
            raise web.HTTPNotFound(
                text=json.dumps(
                    {"error": str(error), "near": error.near, "several": error.several}
                ),
                content_type="application/json",
            ) from None

    async def _answer(self, listing: Listing) -> web.Response:
        now = self.known.clock.unix_ns()
        return await _json({"now_unix_ns": now, **await asyncio.to_thread(asdict, listing)})


@dataclass(slots=True)
class Gate:
    """Lets so many requests in at once, each for so long."""

    places: int
    seconds: float

    def around(self, handler: Handler) -> Handler:
        """Return ``handler`` as it is reached through here."""

        async def admitted(request: web.Request) -> web.StreamResponse:
            if not self.places:
                answer = _problem(503, f"{request.path}: too many requests at once, expected fewer")
                answer.headers["Retry-After"] = "1"
                return answer
            self.places -= 1
            try:
                async with asyncio.timeout(self.seconds):
                    return await handler(request)
            except TimeoutError:
                return _problem(503, f"{request.path}: over {self.seconds:g} s, expected less")
            finally:
                self.places += 1

        return admitted


def _type(request: web.Request) -> TypeUrl | None:
    name = request.query.get("type")
    if name is None:
        return None
    if name not in BY_SHORT:
        raise web.HTTPBadRequest(
            text=json.dumps({"error": f"type {name!r}: expected one of {', '.join(BY_SHORT)}"}),
            content_type="application/json",
        )
    return BY_SHORT[name]


async def _json(value: object) -> web.Response:
    text = await asyncio.to_thread(json.dumps, value)
    return web.Response(text=text, content_type="application/json")


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
