"""Gateways that share a real Redis: together they keep the limit, with it and without it."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from support import redis
from support.limited import One, allowance

from gateway.limits import Grant, Limits
from wherry.clock import SystemClock
from wherry.model.plan import Concurrency, Quota, Rate
from wherry.store import opened


@pytest.fixture
def server(tmp_path):
    with redis.serving(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@asynccontextmanager
async def gateways(server, plan, number):
    """Run gateways that know of each other."""
    async with AsyncExitStack() as stack, asyncio.timeout(40), asyncio.TaskGroup() as group:
        ones, tasks = [], []
        for n in range(number):
            store = await stack.enter_async_context(opened(server.url))
            limits = Limits(store, SystemClock(), node=f"node-{n}", shared=True)
            tasks.append(group.create_task(limits.run(), name=limits.__class__.__name__))
            ones.append(One(limits, plan))
        while any(one.limits.books.nodes < number for one in ones):
            await asyncio.sleep(0.02)
        yield ones
        for task in tasks:
            task.cancel()
        for one in ones:
            await one.limits.end()


async def granted(ones, calls):
    """Call at every gateway at once; return how many passed."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.call()) for one in ones for _ in range(calls)]
    return sum(isinstance(task.result(), Grant) for task in tasks)


async def test_a_quota_is_kept_by_gateways_that_call_all_at_once(server):
    plan = allowance(quotas=[Quota(name="q", limit=500, window="year")])
    async with gateways(server, plan, 3) as ones:
        passed = sum([await granted(ones, 25) for _ in range(8)])
    assert 500 <= passed <= 505


async def test_places_of_gateways_that_call_all_at_once_are_never_too_many(server):
    plan = allowance(concurrency=Concurrency(calls=10))
    async with gateways(server, plan, 3) as ones:
        assert await granted(ones, 10) == 10
        assert await granted(ones, 2) == 0


@pytest.mark.parametrize(("how", "passes"), [("closed", 0), ("local", 9), ("open", 30)])
async def test_without_redis_each_plan_holds_as_it_says_and_with_it_again_all_is_known(
    server, how, passes
):
    plan = allowance(
        rate=Rate(requests=9, per="24h"),
        quotas=[Quota(name="q", limit=1000, window="year")],
        when_store_fails=how,
    )
    async with gateways(server, plan, 3) as ones:
        server.stop()
        while not all(one.limits.failing for one in ones):
            await asyncio.sleep(0.02)
        assert await granted(ones, 10) == passes
        server.start()
        while any(one.limits.failing for one in ones):
            await asyncio.sleep(0.02)
        assert await granted(ones, 10) == (9 if how == "closed" else 0)
