"""Pilots at one Store know what the checkers of the others say."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

from support.members import until

from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore
from xds.health.check import Endpoint
from xds.health.server import Health
from xds.health.shared import LASTING_SECONDS, PREFIX, Shared

ONE, TWO = ("health/web", Endpoint("10.0.0.1", 81)), ("health/web", Endpoint("10.0.0.2", 82))


class Hours:
    """A clock whose wall time is the test's."""

    def __init__(self):
        self.unix = 10**18

    def now(self):
        return SystemClock().now()

    def unix_ns(self):
        return self.unix


class Heard(Health):
    """What checkers say, said by the test."""

    def __init__(self):
        super().__init__(SystemClock())
        self._said = asyncio.Queue()

    def say(self, *bad):
        self._said.put_nowait(frozenset(bad))

    async def follow(self):
        yield frozenset()
        while True:
            yield await self._said.get()


@asynccontextmanager
async def pilot(store, clock):
    heard, told = Heard(), []
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Shared(heard, store, clock, told.append).run())
        try:
            yield heard, told
        finally:
            running.cancel()


async def says(told, *bad):
    async def so():
        return bool(told) and told[-1] == frozenset(bad)

    await until(so)


async def test_what_one_hears_the_other_knows_and_both_forget():
    store, clock = MemoryStore(), Hours()
    async with pilot(store, clock) as (first, one), pilot(store, clock) as (second, two):
        first.say(ONE)
        await says(one, ONE)
        await says(two, ONE)
        second.say(TWO)
        await says(one, ONE, TWO)
        await says(two, ONE, TWO)
        first.say()
        await says(one, TWO)
        await says(two, TWO)
        second.say()
        await says(one)
        assert await store.list(PREFIX) == {}


async def test_what_a_pilot_heard_counts_for_a_while_after_it_ended():
    store, clock = MemoryStore(), Hours()
    async with pilot(store, clock) as (first, one):
        first.say(ONE)
        await says(one, ONE)
        await until(lambda: store.list(PREFIX))
    async with pilot(store, clock) as (_, two):
        await says(two, ONE)
    clock.unix += int((LASTING_SECONDS + 1) * 10**9)
    async with pilot(store, clock) as (_, three):
        await says(three)


async def test_a_record_that_cannot_be_read_is_told_of_and_left_out(caplog):
    store, clock = MemoryStore(), Hours()
    row = json.dumps({"expires_unix_ns": clock.unix + 10**9, "endpoints": [["c"]]})
    await store.put(PREFIX + "x", row.encode())
    with caplog.at_level(logging.ERROR):
        async with pilot(store, clock) as (first, one):
            first.say(ONE)
            await says(one, ONE)
    assert "record of unhealthy endpoints unreadable" in caplog.text
