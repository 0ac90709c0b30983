"""What follows the Store goes on with what it knows while the Store fails, and then catches up."""

import asyncio
import logging

import pytest

from wherry.errors import WherryError
from wherry.store import StoreFailed
from wherry.store.follow import follow
from wherry.store.memory import MemoryStore


class Failing(MemoryStore):
    """Refuses the first watches."""

    def __init__(self, refusals):
        super().__init__()
        self.refusals = refusals

    async def watch(self, prefix):
        if self.refusals:
            self.refusals -= 1
            raise StoreFailed("memory", "gone")
        async for view in super().watch(prefix):
            yield view


class Seen:
    def __init__(self, wrong=None):
        self.views, self.wrong = asyncio.Queue(), wrong

    async def take(self, view):
        if self.wrong is not None:
            wrong, self.wrong = self.wrong, None
            raise wrong
        self.views.put_nowait(sorted(view))


async def following(store, seen):
    return asyncio.get_running_loop().create_task(follow(store, "a/", seen.take, what="letters"))


@pytest.mark.parametrize(
    ("refusals", "wrong"), [(0, None), (1, None), (2, None), (0, WherryError("damaged"))]
)
async def test_every_view_is_taken_also_after_a_failure_which_is_said_once(refusals, wrong, caplog):
    caplog.set_level(logging.INFO)
    store, seen = Failing(refusals), Seen(wrong)
    await store.put("a/1", b"")
    task = await following(store, seen)
    async with asyncio.timeout(10):
        assert await seen.views.get() == ["a/1"]
        await store.put("a/2", b"")
        assert await seen.views.get() == ["a/1", "a/2"]
    task.cancel()
    failed = bool(refusals or wrong)
    assert caplog.text.count("letters cannot be followed") == failed
    assert caplog.text.count("letters are followed again") == failed


async def test_a_mistake_of_the_programmers_is_no_failure_of_the_store():
    task = await following(MemoryStore(), Seen(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await task
