"""Orders to forget kept answers."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from gateway.admin.endpoint import Role
from gateway.problem import Refused
from gateway.traffic.cache.directives import NOTHING
from gateway.traffic.cache.entry import Entry
from gateway.traffic.cache.kept import Cache, Uri
from gateway.traffic.cache.purges import MAX_ORDERS, RECORD, Order, Purger, order
from gateway.traffic.endpoints import endpoints
from wherry.store.memory import MemoryStore


def filled(*paths: str) -> Cache:
    cache = Cache()
    for path in paths:
        entry = Entry(200, (), b"", NOTHING, 0, 60, (), b"", frozenset({path[1:]}))
        cache.keep((Uri("shop", "http://h", path, ""), ""), entry)
    return cache


async def test_every_process_carries_out_an_order_once():
    store, caches = MemoryStore(), [filled("/a", "/b"), filled("/a")]
    purgers = [Purger(store, cache) for cache in caches]
    for purger in purgers:
        purger.take(await store.get(RECORD))
    assert await order(store, Order(path_prefix="/a")) == 1
    record = await store.get(RECORD)
    for purger in purgers:
        purger.take(record)
    assert [len(cache) for cache in caches] == [1, 0]
    await order(store, Order(tag="b"))
    purgers[0].take(await store.get(RECORD))
    assert len(caches[0]) == 0


async def test_who_missed_orders_forgets_everything_and_who_is_new_nothing():
    store, cache = MemoryStore(), filled("/a")
    late, new = Purger(store, cache), Purger(store, filled("/a"))
    late.take(None)
    for _ in range(MAX_ORDERS + 1):
        await order(store, Order(product="other"))
    record = await store.get(RECORD)
    assert record is not None
    late.take(record)
    assert len(cache) == 0
    new.take(record)
    assert len(new._cache) == 1
    cache = filled("/a")
    gone = Purger(store, cache)
    gone.take(record)
    gone.take(None)
    assert len(cache) == 0


async def test_orders_written_at_the_same_time_are_all_kept():
    store = MemoryStore()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(order(store, Order(tag=f"t{n}"))) for n in range(5)]
    assert sorted(task.result() for task in tasks) == [1, 2, 3, 4, 5]


async def test_a_purger_follows_the_store():
    store, cache = MemoryStore(), filled("/a")
    purger = Purger(store, cache)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(purger.follow(), name="purger")
        while purger.done is None:
            await asyncio.sleep(0)
        number = await order(store, Order())
        while purger.done != number:
            await asyncio.sleep(0)
        task.cancel()
    assert len(cache) == 0


@dataclass
class Admin:
    store: MemoryStore
    url: str


@pytest.fixture
async def admin():
    store = MemoryStore()
    [endpoint] = endpoints(store)
    assert endpoint.role is Role.EDITOR

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await endpoint.handler(request)
        except Refused as refused:
            return web.Response(status=refused.status.value, body=refused.body())

    app = web.Application()
    app.router.add_route(endpoint.method, endpoint.path, handle)
    async with TestServer(app, host="127.0.0.1") as server:
        yield Admin(store, str(server.make_url(endpoint.path)))


async def test_a_purge_is_ordered_over_http(admin: Admin):
    assert urlsplit(admin.url).path == "/v1/cache/purge"
    async with ClientSession() as session:
        asked = {"product": "shop", "pathPrefix": "/a"}
        async with session.post(admin.url, json=asked) as answer:
            assert answer.status == 202
            assert await answer.json() == {"order": 1}
    record = await admin.store.get(RECORD)
    purger = Purger(admin.store, cache := filled("/a", "/a/b", "/b"))
    purger.take(None)
    purger.take(record)
    assert len(cache) == 1


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"everything": False},
        {"everything": True, "tag": "a"},
        {"pathPrefix": "a"},
        {"tag": "a b"},
        {"product": "Shop!"},
        {"prefix": "/a"},
        [],
    ],
)
async def test_an_order_that_is_none_is_refused(admin: Admin, asked: object):
    async with ClientSession() as session, session.post(admin.url, json=asked) as answer:
        assert answer.status == 422
    assert await admin.store.get(RECORD) is None
