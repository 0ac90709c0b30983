"""What is written through the admin API is in force at the gateway, without a restart."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway import app as gateway_app
from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.pepper import pepper
from wherry.cli.admin_client import Place, client
from wherry.config.watch import Worlds
from wherry.resources import Resources
from wherry.resources.follow import follow
from wherry.serve import Address
from wherry.store import opened

pytestmark = pytest.mark.e2e

WITHIN = 20.0


def document(kind, name, **spec):
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def catalogue(text):
    """Everything that strangers need to be answered with ``text``."""
    return [
        document("Plan", "free"),
        document(
            "ApiProduct",
            "hello",
            plans=["free"],
            authentication=[{"type": "anonymous", "consumer": "guest"}],
            routes=[{"path": "/hello", "to": {"mock": {"text": text}}}],
        ),
        document("Consumer", "guest", subscriptions=[{"product": "hello", "plan": "free"}]),
    ]


@asynccontextmanager
async def house(folder):
    """A gateway and its admin API over one store, with an empty folder of files."""
    files = folder / "files"
    files.mkdir()
    async with opened(f"sqlite:{folder / 'wherry.db'}") as store:
        resources = Resources(store, files)
        worlds = Worlds(await resources.world())
        secret = pepper(folder / "pepper")
        _, text = await tokens.create(store, secret, "ci", Role.EDITOR, now_ns=1)
        settings = gateway_app.Settings(
            pepper=folder / "pepper", address=Address(), journal=folder / "journal"
        )
        async with (
            gateway_app.running(settings, store=store, worlds=worlds) as gateway,
            running(
                Settings(folder / "pepper", Address()), store=store, resources=resources
            ) as admin,
            asyncio.TaskGroup() as group,
            client(Place(admin.url, text)) as operator,
        ):
            following = group.create_task(follow(store, files, worlds))
            yield gateway.address.url, operator, worlds
            following.cancel()


async def until(session, url, status, text=None):
    async with asyncio.timeout(WITHIN):
        while True:
            async with session.get(url) as answer:
                if answer.status == status and text in {None, await answer.text()}:
                    return
            await asyncio.sleep(0.01)


async def test_a_product_is_sold_changed_and_gone_while_the_gateway_serves(tmp_path):
    async with house(tmp_path) as (gateway, operator, _), aiohttp.ClientSession() as session:
        url = f"{gateway}/hello"
        await until(session, url, 404)
        await operator.apply(catalogue("one"))
        await until(session, url, 200, "one")
        seen, stop = [], asyncio.Event()

        async def call():
            while not stop.is_set():
                async with session.get(url) as answer:
                    seen.append((answer.status, await answer.text()))

        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(call()) for _ in range(4)]
            for text in ("two", "three", "four"):
                await operator.apply(catalogue(text))
                await until(session, url, 200, text)
            stop.set()
        assert len(callers) == 4
        assert {status for status, _ in seen} == {200}
        assert {text for _, text in seen} <= {"one", "two", "three", "four"}
        await operator.apply([], prune=True)
        await until(session, url, 404)


async def test_a_consumer_who_is_blocked_is_refused_at_once(tmp_path):
    async with house(tmp_path) as (gateway, operator, _), aiohttp.ClientSession() as session:
        await operator.apply(catalogue("one"))
        await until(session, f"{gateway}/hello", 200)
        blocked = catalogue("one")[2]
        blocked["spec"]["blocked"] = True
        await operator.apply([blocked])
        await until(session, f"{gateway}/hello", 403)
