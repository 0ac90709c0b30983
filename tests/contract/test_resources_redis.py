"""The catalogue in a real Redis: two processes' writers, and a World that follows."""

import asyncio
import secrets

import pytest
from support import redis

from wherry import audit
from wherry.config.watch import Worlds
from wherry.resources import Resources
from wherry.resources.follow import follow
from wherry.store.redis import RedisStore


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with redis.serving(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


def plan(name, title="x"):
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": "Plan",
        "metadata": {"name": name},
        "spec": {"title": title},
    }


async def test_writers_on_two_connections_lose_nothing_of_each_other(url):
    prefix = f"{secrets.token_hex(8)}:"
    async with (
        RedisStore.open(url, prefix=prefix) as one,
        RedisStore.open(url, prefix=prefix) as two,
    ):
        async with asyncio.TaskGroup() as group:
            for n in range(8):
                writer = Resources((one, two)[n % 2], None)
                group.create_task(writer.put(plan(f"p{n}"), expect=0, actor="ann"))
        assert len(await Resources(one, None).list("Plan")) == 8
        assert len(await two.read(audit.LOG)) == 8


async def test_a_world_follows_what_another_connection_writes(url):
    prefix = f"{secrets.token_hex(8)}:"
    async with (
        RedisStore.open(url, prefix=prefix) as one,
        RedisStore.open(url, prefix=prefix) as two,
        asyncio.TaskGroup() as group,
    ):
        worlds = Worlds(await Resources(one, None).world())
        following = group.create_task(follow(one, None, worlds))
        for title in ("x", "y"):
            await Resources(two, None).put(plan("gold", title), actor="ann")
            async with asyncio.timeout(20):
                async for world in worlds.follow():
                    if "gold" in world.plans and world.plans["gold"].spec.title == title:
                        break
        following.cancel()
