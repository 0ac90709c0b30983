"""The scheduled example, run by a clock that is moved on."""

import asyncio
from pathlib import Path

import pytest
from support.lambda_api import served, until

from faas.functions.declared import Declared
from faas.place import Place
from faas.schedules.service import Schedules
from wherry.clock import SystemClock
from wherry.config import load
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "scheduled"


class AheadClock(SystemClock):
    """The host's clock, so many seconds ahead."""

    ahead = 0.0

    def unix_ns(self):
        return super().unix_ns() + int(self.ahead * 1e9)


async def test_the_example_ticks_once_a_minute(tmp_path):
    store, clock = MemoryStore(), AheadClock()
    function = load(EXAMPLE).functions["tick"]
    async with served(tmp_path, store=store) as api, asyncio.TaskGroup() as tasks:
        await api.faas.deploy_directory(
            Declared("tick", EXAMPLE / function.spec.code, function.spec.handler)
        )
        events = api.faas.functions.events
        schedules = Schedules(store, events, Place(), clock=clock, tasks=tasks)
        await schedules.start()
        try:
            for ticks in range(1, 4):
                await schedules.declare("tick", function.spec.schedule)
                clock.ahead += 60.0
                await schedules.declare("tick", function.spec.schedule)
                await until(lambda ticks=ticks: len(said(api)) == ticks)
        finally:
            schedules.stop()
    assert len(set(said(api))) == 3
    assert await store.list("event") == {}


def said(api):
    return [
        line.text
        for line in api.faas.functions.log("tick", after=0)
        if line.text.startswith("tick for 20")
    ]
