"""`wherry run gateway --workers N`: several doors on one port, replaced while calls go on."""

import asyncio
import os
import signal

import aiohttp
import pytest
from support import redis
from support.crew import crew
from support.house import command_of
from support.members import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CLIENTS = 4
WINDOW = 0.5
"""Seconds before a kill in which calls may have ended that were not on the disk yet."""


@pytest.fixture(params=["sqlite", "redis"])
def store(request, tmp_path):
    """The URL of the Store that the workers share; None is the state's file."""
    if request.param == "sqlite":
        yield None
        return
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis.serving(folder) as server:
        yield server.url


async def test_workers_are_replaced_without_a_failed_call_and_all_is_counted(tmp_path, store):
    async with crew(tmp_path, store=store) as gateways:
        old = gateways.gateway.workers()
        assert len(old) == 2
        assert not [pid for pid in old if str(store) in command_of(pid)]  # it may hold a password
        async with gateways.calling(2), gateways.calling(2, keep=False):
            await gateways.gateway.replaced()
        assert not set(old) & set(gateways.gateway.workers())
        assert not gateways.failed
        count = len(gateways.answered)
        assert await gateways.counted() == count
    assert await gateways.recorded() == count
    print(f"{count} calls, {len(old)} workers replaced")


async def test_a_worker_that_is_killed_is_started_again_and_its_usage_is_sent(tmp_path, store):
    async with crew(tmp_path, store=store) as gateways:
        loop = asyncio.get_running_loop()
        async with gateways.calling(CLIENTS):
            await until(_answered(gateways, 200))
            victim, other = gateways.gateway.workers()
            killed = loop.time()
            os.kill(victim, signal.SIGKILL)
            await gateways.gateway.says("worker serves", times=3)
            count = len(gateways.answered)
            await until(_answered(gateways, count + 100))
        assert other in gateways.gateway.workers()
        assert all(when < killed + WINDOW for when, _ in gateways.failed), gateways.failed
    answered, failed = len(gateways.answered), len(gateways.failed)
    at_risk = sum(killed - WINDOW < when <= killed for when in gateways.answered)
    found = await gateways.recorded()
    print(f"{answered} calls answered, {failed} failed, {found} recorded")
    assert answered - at_risk <= found <= answered + failed + CLIENTS


async def test_at_its_end_the_whole_crew_finishes_calls_and_keeps_all_usage(tmp_path, store):
    end = asyncio.Event()
    async with crew(tmp_path, store=store, stream=end) as gateways:
        async with (
            aiohttp.ClientSession(headers={"x-api-key": gateways.key}) as client,
            client.get(f"{gateways.url}/stream") as answer,
        ):
            assert await answer.content.readline() == b"data: 1\n"
            gateways.gateway.process.terminate()
            await until(lambda: _ready(client, gateways.url, 503))
            async with client.get(f"{gateways.url}/items") as late:
                assert (late.status, late.headers["Connection"]) == (200, "close")
            await until(lambda: _refuses(gateways.url))
            end.set()
            assert await answer.content.read() == b"\ndata: 2\n\n"
        assert await gateways.gateway.process.wait() == 0
    assert await gateways.recorded() == 2


async def test_what_all_workers_let_through_is_what_the_plan_allows(tmp_path, store):
    limit, workers = 300, 3
    async with crew(tmp_path, store=store, workers=workers, limit=limit) as gateways:

        async def all_know_all():
            return await gateways.metric("wherry_gateway_limit_nodes") == workers**2

        await until(all_know_all)
        async with gateways.calling(8, keep=False):
            await until(_failed(gateways, 100))
        assert {text[:3] for _, text in gateways.failed} == {"429"}
        assert limit <= len(gateways.answered) <= limit * 1.01
    assert await gateways.recorded() == len(gateways.answered)


async def test_calls_go_on_while_the_store_is_away_and_all_of_them_are_counted(tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis.serving(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
        async with crew(tmp_path, store=server.url) as gateways:
            async with gateways.calling(2):
                await until(_answered(gateways, 100))
                server.stop()
                before = len(gateways.answered)
                await until(_answered(gateways, before + 200))
                assert await _is_ready(gateways)
                server.start()
                before = len(gateways.answered)
                await until(_answered(gateways, before + 200))
            assert not gateways.failed
        assert await gateways.recorded() == len(gateways.answered)


async def test_a_setting_in_the_files_reaches_every_worker_and_a_wrong_one_none(tmp_path):
    async with crew(tmp_path) as gateways, gateways.calling(2, keep=False):
        await until(_answered(gateways, 20))
        gateways.become("LIMIT", 'notanumber"')
        await gateways.gateway.says("configuration refused", times=3)
        assert not gateways.failed
        gateways.become("LIMIT", "1")

        async def refused_for_long():
            last = max(gateways.answered)
            return sum(when > last for when, _ in gateways.failed) > 100

        await until(refused_for_long)


async def _is_ready(gateways):
    async with aiohttp.ClientSession() as client:
        return await _ready(client, gateways.url, 200)


def _answered(gateways, count):
    async def done():
        return len(gateways.answered) >= count

    return done


def _failed(gateways, count):
    async def done():
        return len(gateways.failed) >= count

    return done


async def _ready(client, url, status):
    async with client.get(f"{url}/.wherry/readyz") as answer:
        return answer.status == status


async def _refuses(url):
    try:
        async with aiohttp.ClientSession() as client, client.get(f"{url}/.wherry/healthz"):
            return False
    except aiohttp.ClientError:
        return True
