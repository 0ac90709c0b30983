"""A gateway's Envoy in front of a mesh, and the requests and routes that tests send it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from support.members import Mesh
from wherry.cli.envoys import Envoy, serving
from wherry.serve import Address, bound, reserved

EDGE = """\
services: {%s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [{name: http, port: 80}]}
"""
ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec: {parentRefs: [%s], hostnames: %s, rules: [%s]}
"""


def services(*names: str) -> str:
    return EDGE % ", ".join(f"{name}: {{}}" for name in names)


def route(name: str, *rules: str, parent: str = "{name: edge}", hosts: str = "[]") -> str:
    return ROUTE % (name, parent, hosts, ", ".join(rules))


def to(service: str, match: str = "") -> str:
    return f"{{matches: [{{{match}}}], backendRefs: [{{name: {service}}}]}}"


@dataclass
class Edge:
    """The ingress as a client sees it."""

    at: str
    client: aiohttp.ClientSession

    async def asks(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict]:
        """Send a request as it is written; return the status and what the program said."""
        url = URL(self.at + path, encoded=True)
        async with self.client.request(method, url, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith("{") else {}

    async def meets(self, path: str = "/", method: str = "GET", **headers: str) -> object:
        """Return the service that answers, or the status of a refusal."""
        status, said = await self.asks(path, method, **headers)
        return said["service"] if status == 200 else status


@asynccontextmanager
async def edge_of(made: Mesh) -> AsyncIterator[Edge]:
    with reserved("ingress", Address()) as held:
        metadata = {"role": "gateway", "gateway": "edge", "ports": {"80": bound(held).port}}
        spec = Envoy("gateway~edge", metadata, made.pilot.address, made.run)
        async with serving(spec), aiohttp.ClientSession() as client:
            yield Edge(bound(held).url, client)


@dataclass
class Load:
    """Requests that never pause, and how each of them ended."""

    edge: Edge
    path: str = "/"
    ended: Counter[object] = field(default_factory=Counter)
    _fresh: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def flowing(self, workers: int = 6) -> AsyncIterator["Load"]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(), name=f"load {n}") for n in range(workers)]
            await self.more(20)
            yield self
            for task in tasks:
                task.cancel()

    async def _ask(self) -> None:
        while True:
            try:
                ended = await self.edge.meets(self.path)
            except aiohttp.ClientError as error:
                ended = repr(error)
            self.ended[ended] += 1
            self._fresh.set()

    async def more(self, count: int) -> None:
        """Return when so many more have ended."""
        async with asyncio.timeout(30):
            wanted = self.ended.total() + count
            while self.ended.total() < wanted:
                self._fresh.clear()
                await self._fresh.wait()
