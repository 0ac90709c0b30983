"""Several gateway processes at one address, replaced while calls go on."""

import asyncio
import sys
from pathlib import Path

import aiohttp
from aiohttp import web
from support import gateway_worker
from support.gateway_site import recorded

from gateway import keyring
from gateway.pepper import pepper
from wherry.clock import SystemClock
from wherry.process import Command
from wherry.serve import Address, bound, reserved
from wherry.store.sqlite import SqliteStore
from wherry.workers import place, supervised

CATALOGUE = """
services: {shop: {}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
spec: {quotas: [{name: all, limit: 1000000, window: year}]}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: store}
spec: {plans: [basic], routes: [{path: /items, to: {service: shop}}]}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: store, plan: basic}]}
"""


async def test_workers_are_replaced_without_a_failed_call_and_all_is_counted(tmp_path):
    async def hello(_):
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/items", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    mesh = tmp_path / "mesh.sock"
    await web.UnixSite(runner, str(mesh)).start()
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    async with SqliteStore.open(tmp_path / "wherry.db") as store:
        secret = pepper(tmp_path / "pepper")
        _, key = await keyring.create(store, secret, "alice", now_ns=SystemClock().unix_ns())
        with reserved("gateway", Address()) as held:
            address = bound(held)

            def command(number: int) -> Command:
                told = place(tmp_path, number)
                script = Path(gateway_worker.__file__)
                arguments = (tmp_path / "catalogue.yaml", tmp_path, mesh, address, told)
                return Command("gateway", [sys.executable, str(script), *map(str, arguments)])

            done, count = asyncio.Event(), 0
            async with supervised(2, command, tmp_path, grace=30.0) as workers:
                first = set(workers.serving)

                async def calls():
                    nonlocal count
                    async with aiohttp.ClientSession(headers={"x-api-key": key}) as client:
                        while not done.is_set():
                            async with client.get(f"{address.url}/items") as answer:
                                assert answer.status == 200
                                count += 1

                async with asyncio.TaskGroup() as group:
                    for _ in range(4):
                        group.create_task(calls())
                    await workers.replace()
                    done.set()
                assert not first & set(workers.serving)
        assert count
        assert len(await recorded(store)) == count
    await runner.cleanup()
