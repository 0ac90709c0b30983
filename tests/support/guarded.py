"""A mesh whose sidecars enforce API products: every service in this process, real Envoys around."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from yarl import URL

import gateway.app
import policy.app
import telemetry.app
import xds.app
from gateway import keyring
from gateway.pepper import pepper
from support.edge import edge_of
from support.gateway_site import recorded
from support.members import ECHO, Mesh, ended
from wherry.cli.guards import Guards
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.serve import Address
from wherry.store.memory import MemoryStore

PLAN = """\
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: %s}
spec: {rate: {requests: %d, per: 1h}}
"""
PRODUCT = """\
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: %s}
spec:
  plans: [wide, narrow]
  enforcedAt: sidecar
%s
"""
CONSUMER = """\
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: %s}
spec: {subscriptions: [%s]}
"""


def product(name: str, *lines: str) -> str:
    """Return a product that sidecars enforce, with these lines of its spec."""
    return PRODUCT % (name, "\n".join(f"  {line}" for line in lines))


def consumer(name: str, **plans: str) -> str:
    """Return a consumer with a plan for each product."""
    return CONSUMER % (name, ", ".join(f"{{product: {p}, plan: {q}}}" for p, q in plans.items()))


def plans(*, narrow: int = 3) -> str:
    return PLAN % ("wide", 100_000) + PLAN % ("narrow", narrow)


@dataclass(frozen=True)
class Answered:
    """What a client got.

    Attributes:
        said: What the program said reached it, or the problem document of a refusal.
    """

    status: int
    headers: Mapping[str, str]
    said: dict


@dataclass
class House:
    """A mesh, its keys and a client at its ingress."""

    mesh: Mesh
    store: MemoryStore
    folder: Path
    guards: Guards
    telemetry: telemetry.app.Running
    policy: policy.app.Running
    gateway: gateway.app.Running
    away: AsyncExitStack
    at: str = ""
    client: aiohttp.ClientSession = field(init=False)

    async def key(self, consumer: str = "ann", *, scopes: Collection[str] | None = None) -> str:
        """Return the text of a new key."""
        return (await self.made(consumer, scopes=scopes))[1]

    async def made(
        self, consumer: str = "ann", *, scopes: Collection[str] | None = None
    ) -> tuple[keyring.Key, str]:
        secret = pepper(self.folder / "pepper")
        grant = keyring.Grant(scopes=None if scopes is None else frozenset(scopes))
        now = SystemClock().unix_ns()
        return await keyring.create(self.store, secret, consumer, now_ns=now, grant=grant)

    async def revoke(self, key: keyring.Key) -> None:
        await keyring.revoke(self.store, key.prefix, now_ns=SystemClock().unix_ns())

    async def call(self, path: str, key: str = "", method: str = "GET", **headers: str) -> Answered:
        """Call by way of the ingress, the path as it is written."""
        url = URL(self.at + path, encoded=True)
        sent = {**({"x-api-key": key} if key else {}), **headers}
        async with self.client.request(method, url, headers=sent) as answer:
            text = await answer.text()
            said = json.loads(text) if text.startswith("{") else {"text": text}
            return Answered(answer.status, answer.headers, said)

    async def until(self, status: int, path: str, key: str = "", *, within: float = 5) -> float:
        """Call until the answer has ``status``; return the seconds that it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (found := (await self.call(path, key)).status) != status:
            assert loop.time() - began < within, (found, status, path)
        return loop.time() - began

    async def uses(self, count: int) -> list:
        """Return what was recorded, once it is this much."""
        async with asyncio.timeout(10):
            while len(found := await recorded(self.store)) < count:
                await asyncio.sleep(0.02)
        return found

    async def become(self, text: str) -> None:
        """Serve this configuration; return when every Envoy holds it."""
        await self.mesh.become(text)

    async def watched(self) -> None:
        """Start the telemetry service again, where it was."""
        settings = telemetry.app.Settings(grpc=self.telemetry.grpc)
        await self.away.enter_async_context(
            telemetry.app.running(settings, clock=SystemClock(), used=self.guards.used)
        )


@asynccontextmanager
async def guarded(folder: Path, text: str) -> AsyncIterator[House]:
    """Run everything; programs are started by the test."""
    (folder / "echo.py").write_text(ECHO)
    clock, guards, store = SystemClock(), Guards(), MemoryStore()
    worlds = Worlds(assemble({Path("mesh.yaml"): text}))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        away = await enter(AsyncExitStack())
        seen = await away.enter_async_context(
            telemetry.app.running(telemetry.app.Settings(), clock=clock, used=guards.used)
        )
        checks = await enter(
            policy.app.running(policy.app.Settings(), worlds=worlds, admission=guards)
        )
        settings = xds.app.Settings(Address(), telemetry=seen.grpc, policy=checks.address)
        made = Mesh(worlds, store, folder, folder / "echo.py")
        made.pilot = await enter(xds.app.running(settings, store=store, worlds=worlds, clock=clock))
        chosen = gateway.app.Settings(pepper=folder / "pepper", address=Address())
        door = await enter(gateway.app.running(chosen, store=store, worlds=worlds))
        guards.sidecars = door.sidecars
        house = House(made, store, folder, guards, seen, checks, door, away)
        edge = await enter(edge_of(made))
        house.at, house.client = edge.at, edge.client
        try:
            yield house
        finally:
            for process in made.processes:
                await ended(process)


@contextlib.asynccontextmanager
async def raw(at: str, head: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
    """Send bytes; yield the answer's first line and the rest of its head."""
    url = URL(at)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head)
    try:
        async with asyncio.timeout(10):
            first = await reader.readline()
            rest = await reader.readuntil(b"\r\n\r\n") if first else b""
        yield first, rest
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
