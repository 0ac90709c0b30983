"""`wherry run PART`: services as processes of their own, which share one Store."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from support import redis
from support.edge import edge_of, route, services, to
from support.gateway_site import recorded
from support.guarded import consumer, plans, product
from support.house import run
from support.members import ECHO, WHERRY, Mesh, ended, until
from support.several import Several

import xds.app
from gateway.house import standing
from gateway.settings import Settings
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store import opened
from wherry.store.memory import MemoryStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MESH = (
    services("stock")
    + route("all", to("stock"))
    + plans(narrow=3)
    + product("stock", "routes: [{path: /stock, to: {service: stock}}]")
    + consumer("ann", stock="wide")
    + consumer("bob")
)
SUBSCRIPTION = {
    "apiVersion": "wherry.dev/v1",
    "kind": "Subscription",
    "metadata": {"name": "bob-stock"},
    "spec": {"consumer": "bob", "product": "stock", "plan": "narrow"},
}
MOCK = """
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
spec: {rate: {requests: 1000, per: 1m}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: store}
spec: {plans: [basic], routes: [{path: /items, to: {mock: {json: {ok: true}}}}]}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: ann}
spec: {subscriptions: [{product: store, plan: basic}]}
"""


@dataclass
class Reported:
    """A call that ended, as an access log says."""

    usage: str
    status: int


@dataclass
class Parts:
    """A configuration, its state folder and its Store, for services that run alone."""

    source: Path
    state: Path
    url: str

    def wherry(self, *arguments: str) -> str:
        """Run a command that is told the folder and nothing of the Store; return its output."""
        return run("wherry", *arguments, state=self.state).stdout

    @asynccontextmanager
    async def part(self, name: str, *listens: str, also: str = ""):
        """Run a service; yield where it and ``also`` listen, and the process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, WHERRY, "run", name, str(self.source), "--state", str(self.state)),
            *(f"--listen={each}=127.0.0.1:0" for each in (name, *listens)),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "WHERRY_STORE": self.url},
        )
        said = Several(process)
        reading = asyncio.get_running_loop().create_task(said.read())
        try:
            first = (await said.says(f"{name} serves at", seconds=60)).rpartition(" ")[2]
            second = (await said.says(f"{also} serves at")).rpartition(" ")[2] if also else ""
            yield Address.parse(first), second
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                async with asyncio.timeout(30):
                    await process.wait()
            except TimeoutError:
                process.kill()
                raise
            finally:
                await reading
        assert process.returncode == 0, said.lines


@pytest.fixture
def parts(tmp_path):
    """Services over a real Redis."""
    for name in ("redis", "state"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "mesh.yaml").write_text(MESH)
    with redis.serving(tmp_path / "redis") as server:
        yield Parts(tmp_path / "mesh.yaml", tmp_path / "state", server.url)


async def test_sidecars_are_answered_and_recorded_by_services_of_their_own(parts, tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    worlds = Worlds(assemble({Path("mesh.yaml"): MESH}))
    async with (
        opened(parts.url) as store,
        parts.part("policy") as (policy, _),
    ):
        async with parts.part("telemetry", "metrics") as (telemetry, _):
            mesh = Mesh(worlds, store, tmp_path, tmp_path / "echo.py")
            settings = xds.app.Settings(Address(), telemetry=telemetry, policy=policy)
            clock = SystemClock()
            async with xds.app.running(settings, store=store, worlds=worlds, clock=clock) as pilot:
                mesh.pilot = pilot
                async with edge_of(mesh) as edge:
                    await mesh.program("stock")
                    try:
                        await mesh.joined(1)
                        passed = await _calls(parts, store, edge)
                    finally:
                        for process in mesh.processes:
                            await ended(process)

            async def all_recorded():
                return len(await recorded(store)) >= passed

            await until(all_recorded)
        found = await recorded(store)
        assert len(found) == passed
        assert {use.labels["at"] for use in found} == {"sidecar"}
    lines = await asyncio.to_thread(parts.wherry, "usage", "--by", "consumer", "--json")
    used = {row["consumer"]: row["calls"] for row in map(json.loads, lines.splitlines())}
    assert used == {"ann": passed - 3, "bob": 3}


async def _calls(parts, store, edge):
    """Call as ann and as bob, whose subscription is written to the Store; return what passed."""

    async def asks(key=""):
        return (await edge.asks("/stock", **({"x-api-key": key} if key else {})))[0]

    assert await asks() == 401
    ann = (await asyncio.to_thread(parts.wherry, "key", "create", "ann")).strip()
    bob = (await asyncio.to_thread(parts.wherry, "key", "create", "bob")).strip()
    passed = 0

    async def until_it_is(status, key):
        while await asks(key) != status:
            await asyncio.sleep(0.02)

    async with asyncio.timeout(20):
        await until_it_is(200, ann)
        await until_it_is(403, bob)
    passed += 1
    await Resources(store, parts.source).put(SUBSCRIPTION, actor="test")
    async with asyncio.timeout(20):
        await until_it_is(200, bob)
    statuses = [await asks(bob) for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    statuses = [await asks(ann) for _ in range(20)]
    assert statuses == [200] * 20
    return passed + 3 + 20


async def test_what_sidecars_reported_is_recorded_by_a_service_that_ends_at_once(tmp_path):
    store = MemoryStore()
    settings = Settings(tmp_path / "pepper", journal=tmp_path / "usage", max_unwritten=10)
    worlds = Worlds(assemble({Path("mesh.yaml"): MESH}))
    said = [0, "ann", "default", "stock", "GET /stock", "wide", "k", 1, "GET", "/stock", "v1"]
    async with standing(
        settings, "http://here", store=store, worlds=worlds, clock=SystemClock()
    ) as house:
        house.sidecars.used([Reported(json.dumps([f"b-{n}", *said]), 200) for n in range(50)])
    assert {use.id for use in await recorded(store)} == {f"b-{n}" for n in range(50)}


async def test_a_gateway_alone_keeps_its_office_and_commands_find_both(parts, tmp_path):
    parts.source.write_text(MOCK)
    async with parts.part("gateway", "admin", "portal", also="admin") as (gateway, admin):
        key = (await asyncio.to_thread(parts.wherry, "key", "create", "ann")).strip()
        extra = tmp_path / "extra.yaml"
        extra.write_text(
            MOCK.partition("---")[0].replace("basic", "extra")  # a plan of its own
        )
        assert "+ Plan extra" in await asyncio.to_thread(parts.wherry, "apply", str(extra))
        token = await asyncio.to_thread(
            parts.wherry, "admin", "token", "create", "watcher", "--role", "viewer"
        )
        async with aiohttp.ClientSession() as client:

            async def answers(url, status, **headers):
                async with client.get(url, headers=headers) as answer:
                    return answer.status == status

            await until(lambda: answers(f"{gateway.url}/items", 200, **{"x-api-key": key}))
            bearer = {"Authorization": f"Bearer {token.strip()}"}
            assert await answers(f"http://{admin}/v1/plans/extra", 200, **bearer)
            assert await answers(f"{gateway.url}/.wherry/readyz", 200)
    assert not (parts.state / "wherry.db").exists()
    assert not (parts.state / "addresses.json").exists()
    shown = await asyncio.to_thread(parts.wherry, "usage", "--json")
    assert json.loads(shown)["calls"] == 1
