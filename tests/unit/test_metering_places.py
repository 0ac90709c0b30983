"""Places are given out in order and never get lost, whoever stops waiting."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metering.places import Places


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_finds_no_place_waits_and_the_first_to_ask_is_the_first_to_get_one():
    places, order = Places(1), []

    async def asks(name):
        await places.take()
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(asks(name))
            await turns()
        assert order == ["a"]
        places.free(2)
        await turns()
        assert order == ["a", "b", "c"]
        group.create_task(asks("e"))
        await turns()
        places.free(2)
    assert order == ["a", "b", "c", "d", "e"]


async def test_a_place_given_to_one_who_was_cancelled_goes_to_the_next():
    places = Places(0)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(places.take())
        second = group.create_task(places.take())
        await turns()
        places.free(1)
        first.cancel()  # it has its place, and was not told yet
        await second
    assert first.cancelled()


@given(st.lists(st.sampled_from(["take", "free", "cancel", "turn"]), max_size=60))
def test_no_place_is_lost_or_made_up(steps):
    async def run():
        places, tasks, given_out, freed = Places(2), [], 0, 0
        for step in steps:
            if step == "take":
                tasks.append(asyncio.get_running_loop().create_task(places.take()))
            elif step == "free":
                held = sum(task.done() and not task.cancelled() for task in tasks) - freed
                if held:
                    places.free(1)
                    freed += 1
            elif step == "cancel" and tasks:
                tasks[-1].cancel()
            else:
                await turns(1)
        await turns()
        given_out = sum(task.done() and not task.cancelled() for task in tasks)
        waiting = sum(not task.done() for task in tasks)
        assert given_out - freed <= 2
        assert not waiting or given_out - freed == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks) if tasks else None
        for _ in range(2 - (given_out - freed)):
            async with asyncio.timeout(1):
                await places.take()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await places.take()

    asyncio.run(run())
