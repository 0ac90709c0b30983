"""Four gateways on one Redis that hangs, dies and comes back: each plan holds as it says."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from support import redis
from support.crew import crew

from gateway import keyring
from gateway.limits.books import NODE_SECONDS
from gateway.pepper import pepper
from wherry.clock import SystemClock

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WORKERS = 4
PLANS = ("closed", "local", "open")
LIMIT = 120
CATALOGUE = """
services: {shop: {}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: store}
spec:
  plans: [closed, local, open, few]
  routes:
  - {path: /items, to: {service: shop}}
  - {path: /stream, to: {service: shop}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: few}
spec: {concurrency: {calls: 2}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: store, plan: few}]}
""" + "".join(
    f"""---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {{name: {plan}}}
spec: {{whenStoreFails: {plan}, quotas: [{{name: all, limit: {LIMIT}, window: year}}]}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: {plan}}}
spec: {{subscriptions: [{{product: store, plan: {plan}}}]}}
"""
    for plan in PLANS
)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis.serving(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server
        server.resume()


async def new_key(gateways, consumer):
    secret, now = pepper(gateways.state / "pepper"), SystemClock().unix_ns()
    _, key = await keyring.create(gateways.store, secret, consumer, now_ns=now)
    return {"x-api-key": key}


@asynccontextmanager
async def callers(tmp_path, server):
    """Run gateways that know of each other; yield them and a way to call as each consumer."""
    async with crew(tmp_path, store=server.url, workers=WORKERS, catalogue=CATALOGUE) as gateways:
        keys = {plan: await new_key(gateways, plan) for plan in PLANS}
        connector = aiohttp.TCPConnector(force_close=True)  # so that all gateways are called
        async with aiohttp.ClientSession(gateways.url, connector=connector) as client:

            async def call(plan):
                async with client.get("/items", headers=keys[plan]) as answer:
                    await answer.read()
                    return answer.status

            await until(lambda: gateways.metric("wherry_gateway_limit_nodes"), WORKERS**2)
            for plan in PLANS:
                await until(lambda plan=plan: call(plan), 200)
            yield gateways, call


async def until(check, wanted, *, within=30.0, seen=None):
    """Return once ``check`` returns ``wanted``; put what it returns in ``seen``."""
    async with asyncio.timeout(within):
        while (found := await check()) != wanted:
            if seen is not None:
                seen[found] += 1
            await asyncio.sleep(0.02)


async def many(call, plan, count):
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call(plan)) for _ in range(count)]
    return Counter(each.result() for each in calls)


@pytest.mark.parametrize("trouble", ["hangs", "dies"])
async def test_without_redis_plans_hold_as_they_say_and_with_it_again_as_before(
    tmp_path, server, trouble
):
    async with callers(tmp_path, server) as (gateways, call):
        seen = Counter()
        before = await many(call, "local", 20)
        assert set(before) == {200}
        if trouble == "hangs":
            server.pause()
        else:
            server.stop()
        for _ in range(3 * WORKERS):  # each gateway finds out for itself
            await until(lambda: call("closed"), 503, seen=seen)
        assert set(seen) <= {200}
        assert set(await many(call, "closed", 8)) == {503}
        assert set(await many(call, "open", LIMIT + 40)) == {200}
        local = await many(call, "local", LIMIT + 40)
        assert set(local) == {200, 429}
        assert local[200] <= LIMIT  # each its part of what it last knew to be left
        if trouble == "hangs":
            server.resume()
        else:
            server.start()
        for _ in range(3 * WORKERS):
            await until(lambda: call("closed"), 200, seen=seen)
        assert 401 not in seen
        assert 500 not in seen
        for plan in ("local", "open"):  # what passed meanwhile counts
            await until(lambda plan=plan: call(plan), 429, seen=seen)
        passed = await gateways.counted()
    assert await gateways.recorded() == passed


async def test_places_of_gateways_that_are_killed_come_back(tmp_path, server):
    async with (
        crew(tmp_path, store=server.url, workers=WORKERS, catalogue=CATALOGUE) as gateways,
        aiohttp.ClientSession(
            gateways.url,
            connector=aiohttp.TCPConnector(force_close=True),
            headers={"x-api-key": gateways.key},
        ) as client,
    ):

        async def status():
            try:
                async with client.get("/items") as answer:
                    return answer.status
            except aiohttp.ClientError:
                return None

        async def stream():
            """Open a stream; the place of a call before it may be a moment on its way back."""
            answer = await client.get("/stream")
            while answer.status == 429:
                answer.close()
                answer = await client.get("/stream")
            return answer

        await until(lambda: gateways.metric("wherry_gateway_limit_nodes"), WORKERS**2)
        await until(status, 200)
        async with asyncio.timeout(20), await stream() as one, await stream() as other:
            assert (one.status, other.status) == (200, 200)
            for _ in range(2 * WORKERS):
                assert await status() == 429
            for worker in gateways.gateway.workers():
                os.kill(worker, signal.SIGKILL)
        seen = Counter()
        await until(status, 200, within=NODE_SECONDS + 20, seen=seen)
        assert set(seen) <= {429, None}
