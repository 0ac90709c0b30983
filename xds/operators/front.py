"""The HTTP port of several Pilots: asks all of them, and answers as one would."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import aiohttp
from aiohttp import web

from wherry.serve import Address, bound, listening
from wherry.sums import Sums
from wherry.web import local_names_only
from xds.operators import merged
from xds.operators.http import Gate, Limits
from xds.operators.metrics import written

_OK, _NOT_FOUND = 200, 404

MAX_ANSWER_BYTES = 256 << 20
"""Longest answer of one Pilot."""

Sockets = Callable[[], Mapping[int, Path]]
"""Returns the socket of each Pilot that serves now, by its number."""


@asynccontextmanager
async def front(
    where: Address, pilots: Sockets, limits: Limits | None = None
) -> AsyncIterator[Address]:
    """Answer at ``where`` until the block ends.

    Args:
        where: Port 0 lets the kernel choose.
        pilots: Whom to ask.
        limits: None is the default.

    Raises:
        PortInUse: Another program listens there.
    """
    limits = limits or Limits()
    sock = listening("pilot", where)
    runner = web.AppRunner(
        _Front(pilots, limits).application(where),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=limits.idle_seconds,
    )
    try:
        await runner.setup()
        await web.SockSite(runner, sock, backlog=128).start()
        yield bound(sock)
    finally:
        await runner.cleanup()
        sock.close()


@dataclass(frozen=True, slots=True)
class _Said:
    """What one Pilot answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def read(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class _Front:
    pilots: Sockets
    limits: Limits
    sums: Sums = field(default_factory=Sums)
    summing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def application(self, where: Address) -> web.Application:
        limits = self.limits
        checked = local_names_only(where, beside=("/v3/",))
        app = web.Application(client_max_size=limits.body_bytes, middlewares=[checked])
        polling, asking = Gate(limits.polls, limits.seconds), Gate(limits.questions, limits.seconds)
        app.router.add_get("/api/proxies", asking.around(self.listing))
        app.router.add_get("/api/proxies/{node}", asking.around(self.of_one))
        app.router.add_get("/api/proxies/{node}/{what:config|diff}", asking.around(self.of_one))
        app.router.add_get("/api/load", asking.around(self.load))
        app.router.add_get("/metrics", asking.around(self.metrics))
        app.router.add_get("/healthz", self.healthz)
        app.router.add_post("/v3/{service}", polling.around(self.discovery))
        return app

    async def listing(self, request: web.Request) -> web.Response:
        said = await self._all(request)
        answers = [each.read() for each in said.values() if each.status == _OK]
        if not answers:
            return _nobody(request)
        return web.json_response(merged.listing(answers))

    async def load(self, request: web.Request) -> web.Response:
        said = await self._all(request)
        answers = [each.read() for each in said.values() if each.status == _OK]
        return web.json_response(merged.loads(answers)) if answers else _nobody(request)

    async def of_one(self, request: web.Request) -> web.Response:
        said = (await self._all(request)).values()
        answers = [each.read() for each in said if each.status == _OK]
        asked = request.match_info["node"]
        by_name: dict[str, list[Any]] = {}
        for answer in answers:
            by_name.setdefault(_node(answer), []).append(answer)
        other = [each for each in said if each.status != _OK]
        if asked not in by_name and (len(by_name) != 1 or any(map(_several, other))):
            return _unclear(asked, sorted(by_name), other) if said else _nobody(request)
        found = by_name.get(asked) or next(iter(by_name.values()))
        merge = merged.resources if "what" in request.match_info else merged.listing
        return web.json_response(merge(found))

    async def metrics(self, request: web.Request) -> web.Response:
        async with self.summing:
            said = await self._all(request, {"Accept": "text/plain"})
            texts = {n: each.body.decode() for n, each in said.items() if each.status == _OK}
            silent = self.pilots().keys() - texts.keys()
            families = await asyncio.to_thread(self.sums.add, texts, silent)
        content_type, text = written(families, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if self.pilots() else _nobody(request)

    async def discovery(self, request: web.Request) -> web.Response:
        """Pass a poll on, to the same Pilot for as long as that one serves."""
        body = await request.read()
        pilots = self.pilots()
        if not pilots:
            return _nobody(request)
        try:
            name = str(json.loads(body)["node"]["id"])
        except (ValueError, KeyError, TypeError, RecursionError):
            name = ""  # it is refused there
        chosen = max(pilots, key=lambda number: crc32(f"{number} {name}".encode()))
        said = await self._ask(pilots[chosen], request, body=body)
        return web.Response(status=said.status, body=said.body, headers=said.headers)

    async def _all(
        self, request: web.Request, headers: Mapping[str, str] | None = None
    ) -> Mapping[int, _Said]:
        """Ask every Pilot what we are asked; one that ends meanwhile is left out."""
        said: dict[int, _Said] = {}

        async def ask(number: int, socket: Path) -> None:
            answer = await self._ask(socket, request, headers)
            if answer.status < 500:  # noqa: PLR2004
                said[number] = answer

        async with asyncio.TaskGroup() as group:
            for number, socket in self.pilots().items():
                group.create_task(ask(number, socket), name=f"ask worker {number}")
        return dict(sorted(said.items()))

    async def _ask(
        self,
        socket: Path,
        request: web.Request,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
    ) -> _Said:
        timeout = aiohttp.ClientTimeout(total=self.limits.seconds)
        url = request.url.with_scheme("http").with_host("pilot").with_port(None)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(socket)), timeout=timeout
                ) as session,
                session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=body,
                ) as answer,
            ):
                text = bytearray()
                async for chunk in answer.content.iter_any():
                    text += chunk
                    if len(text) > MAX_ANSWER_BYTES:
                        return _Said(503, b"", {})
                kind = {"Content-Type": answer.content_type} if text else {}
                return _Said(answer.status, bytes(text), kind)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return _Said(503, b"", {})


def _node(answer: Any) -> str:
    if "node" in answer:
        return str(answer["node"])
    return str(answer["proxies"][0]["node"]) if answer["proxies"] else ""


def _several(said: _Said) -> bool:
    return said.status == _NOT_FOUND and bool(said.read().get("several"))


def _unclear(asked: str, names: list[str], other: list[_Said]) -> web.Response:
    if not names:
        # One that knows it by single requests says more than those that never met it.
        first = next((each for each in other if each.status != _NOT_FOUND), other[0])
        return web.Response(status=first.status, body=first.body, headers=first.headers)
    near = sorted({*names, *(n for each in other for n in each.read().get("near", ()))})
    text = (
        f"proxy {asked!r}: several are named so, expected a connected one; near: {', '.join(near)}"
    )
    return web.json_response({"error": text, "near": near, "several": True}, status=_NOT_FOUND)


def _nobody(request: web.Request) -> web.Response:
    text = f"{request.path}: no worker serves now, expected one; try again"
    return web.json_response({"error": text}, status=503, headers={"Retry-After": "1"})
