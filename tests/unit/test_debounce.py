"""A change after quiet goes out at once; a storm is collected, and nobody waits for long."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.service import Service
from wherry.model.world import World
from xds.builders.scopes import SidecarScope, Surroundings
from xds.debounce import LEAST, MOST, SHARE, Debounce
from xds.node import Node
from xds.pilot import Pilot
from xds.resource import CLUSTER, ENDPOINT
from xds.workload import Workload


def test_a_change_after_quiet_is_published_at_once():
    debounce = Debounce()
    assert debounce.changed(5.0) == 5.0
    debounce.published(5.0, 5.001)
    assert debounce.due is None
    assert debounce.changed(6.0) == 6.0


def test_changes_of_a_storm_are_collected_for_as_long_as_publishing_is_dear():
    debounce = Debounce()
    debounce.changed(5.0)
    debounce.published(5.0, 5.0)
    assert debounce.changed(5.001) == debounce.changed(5.002) == 5.0 + LEAST
    debounce.published(5.01, 5.015)
    assert debounce.changed(5.02) == pytest.approx(5.015 + SHARE * 0.005)
    debounce.published(5.04, 6.0)
    assert debounce.changed(6.0) == 6.0 + MOST


@given(
    st.lists(st.floats(0, 0.05), min_size=1, max_size=50),
    st.floats(0, 0.2),
)
def test_no_change_waits_longer_than_promised_and_none_is_forgotten(gaps, cost):
    debounce, now, waiting = Debounce(), 0.0, []
    for gap in gaps:
        arrives = now + gap
        while (due := debounce.due) is not None and due <= arrives:
            now = max(now, due)
            assert all(now - since <= MOST + cost + 1e-9 for since in waiting)
            waiting = []
            debounce.published(now, now + cost)
            now += cost
        now = max(now, arrives)
        waiting.append(now)
        assert debounce.changed(now) - now <= MOST + 1e-9
    assert debounce.due is not None


def world(*names: str) -> World:
    return World(
        services={
            name: Service.model_validate(
                {
                    "api_version": "v1",
                    "kind": "Service",
                    "metadata": {"name": name},
                    "spec": {"selector": {"app": name}},
                }
            )
            for name in names
        }
    )


AROUND = Surroundings((), frozenset(), ("127.0.0.1", 18002), ("127.0.0.1", 18001))
METADATA = {
    "role": "sidecar",
    "service": "a",
    "version": "v1",
    "app_port": 1,
    "inbound_port": 2,
    "outbound_port": 3,
}
SCOPE = SidecarScope("a", "v1", 1, 2, 3)


@contextlib.asynccontextmanager
async def piloted():
    pilot = Pilot(world("a"), AROUND)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        collecting = group.create_task(pilot.collect())
        with pilot.hub.joined(Node("n", metadata=METADATA)):
            yield pilot
        collecting.cancel()


def told(pilot: Pilot) -> set[str]:
    return set(pilot.hub.current(SCOPE).named(CLUSTER)) & {"a", "b", "c", "d"}


async def test_of_many_worlds_at_once_the_first_and_the_last_are_served():
    async with piloted() as pilot:
        pilot.adopt_world(world("a", "b"))
        assert told(pilot) == {"a", "b"}
        for last in (world("a", "c"), world("a", "d")):
            pilot.adopt_world(last)
        assert told(pilot) == {"a", "b"}
        assert pilot.world is not last
        while pilot.world is not last:
            await asyncio.sleep(0.001)
        assert told(pilot) == {"a", "d"}


async def test_endpoints_do_not_wait_for_what_is_collected():
    async with piloted() as pilot:
        pilot.adopt_world(world("a", "b"))
        pilot.adopt_world(world("a", "c"))
        pilot.adopt_functions(frozenset({"f"}))
        before = pilot.hub.current(SCOPE).version(ENDPOINT)
        pilot.adopt_workloads((Workload("i", "a", "v1", "127.0.0.1", 9),))
        assert pilot.hub.current(SCOPE).version(ENDPOINT) != before
        assert told(pilot) == {"a", "b"}
        while told(pilot) != {"a", "c"}:
            await asyncio.sleep(0.001)
        assert pilot.around == replace(
            AROUND, workloads=pilot.around.workloads, functions=frozenset({"f"})
        )
