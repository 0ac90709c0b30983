"""The admin API keeps what its OpenAPI document promises, whatever schemathesis sends."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from schemathesis import GenerationMode
from support.promises import keeps_promises

import gateway.authn.endpoints
import gateway.metering.endpoints
import gateway.traffic.endpoints
from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.pepper import pepper
from wherry.clock import SystemClock
from wherry.model.world import World
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def serving(folder):
    store, clock = MemoryStore(), SystemClock()
    secret = pepper(folder / "pepper")
    others = [
        *gateway.authn.endpoints.endpoints(store, secret, World, clock),
        *gateway.metering.endpoints.endpoints(store, World, clock),
        *gateway.traffic.endpoints.endpoints(store),
    ]
    _, text = await tokens.create(store, secret, "owner", Role.OWNER, now_ns=1)
    _, _ = await tokens.create(store, secret, "other", Role.OWNER, now_ns=1)
    made = Settings(folder / "pepper", Address())
    resources = Resources(store, None)
    async with running(made, store=store, resources=resources, endpoints=others) as address:
        yield address.url, {"Authorization": f"Bearer {text}"}


OPERATIONS = [
    ("/v1/products", "get"),
    ("/v1/products/{name}", "get"),
    ("/v1/products/{name}", "put"),
    ("/v1/products/{name}", "delete"),
    ("/v1/plans/{name}", "put"),
    ("/v1/consumers/{name}", "put"),
    ("/v1/subscriptions/{name}", "put"),
    ("/v1/gateways/{name}", "put"),
    ("/v1/apply", "post"),
    ("/v1/export", "get"),
    ("/v1/tokens", "get"),
    ("/v1/tokens", "post"),
    ("/v1/tokens/{name}", "delete"),
    ("/v1/audit", "get"),
    ("/v1/consumers/{consumer}/keys", "get"),
    ("/v1/consumers/{consumer}/keys", "post"),
    ("/v1/keys/{prefix}", "delete"),
    ("/v1/keys/{prefix}/rotate", "post"),
    ("/v1/usage", "get"),
    ("/v1/usage", "post"),
    ("/v1/usage/events", "get"),
    ("/v1/cache/purge", "post"),
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
async def test_every_answer_is_one_that_the_document_promises(tmp_path, path, method, mode):
    async with serving(tmp_path) as (url, headers):
        await asyncio.to_thread(keeps_promises, url, headers, path, method, mode)
