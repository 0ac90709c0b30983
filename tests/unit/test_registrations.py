"""Registrations are read when they are written, and not again."""

import asyncio
import logging
from contextlib import aclosing

from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore
from xds.registrations import Registry, Workload, live

BOUND = 10.0


def workload(name, port=80):
    return Workload(name, "web", "v1", "127.0.0.1", port, {"rack": "7"})


async def newest(views):
    async with asyncio.timeout(BOUND):
        return {each.id: each for each in await anext(views)}


async def test_what_was_not_written_again_stays_the_very_same_object():
    store, clock = MemoryStore(), SystemClock()
    registry = Registry(store, clock)
    for name in ("a", "b"):
        await registry.register(workload(name), 60)
    async with aclosing(live(store, clock)) as views:
        first = await newest(views)
        await registry.register(workload("c"), 60)
        second = await newest(views)
    assert second["a"] is first["a"]
    assert second["b"] is first["b"]


async def test_a_heartbeat_keeps_the_object_and_a_change_does_not():
    store, clock = MemoryStore(), SystemClock()
    registry = Registry(store, clock)
    for name in ("a", "b"):
        await registry.register(workload(name), 60)
    async with aclosing(live(store, clock)) as views:
        first = await newest(views)
        await registry.register(workload("a"), 60)
        await registry.register(workload("b", port=81), 60)
        second = await newest(views)
    assert second["a"] is first["a"]
    assert second["b"].port == 81


async def test_what_went_is_forgotten():
    store, clock = MemoryStore(), SystemClock()
    registry = Registry(store, clock)
    await registry.register(workload("a"), 60)
    async with aclosing(live(store, clock)) as views:
        first = await newest(views)
        await registry.deregister("web", "a")
        assert await newest(views) == {}
        await registry.register(workload("a"), 60)
        again = await newest(views)
    assert again["a"] == first["a"]
    assert again["a"] is not first["a"]


async def test_an_unreadable_record_is_told_of_once(caplog):
    store, clock = MemoryStore(), SystemClock()
    registry = Registry(store, clock)
    await store.put("workload/web/x", b"nothing")
    with caplog.at_level(logging.ERROR):
        async with aclosing(live(store, clock)) as views:
            assert await newest(views) == {}
            for number in range(3):
                await registry.register(workload("a", port=80 + number), 60)
                assert (await newest(views))["a"].port == 80 + number
    assert [record.getMessage() for record in caplog.records] == ["registration unreadable"]
