"""The operations on keys keep what the OpenAPI document promises, whatever schemathesis sends."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from schemathesis import GenerationMode
from support.promises import keeps_promises

from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.authn.endpoints import endpoints
from gateway.pepper import pepper
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

CONSUMERS = "apiVersion: wherry.dev/v1\nkind: Consumer\nmetadata: {name: alice}\n"
ALICE = {"consumer": "alice"}
OPERATIONS = [
    ("/v1/consumers/{consumer}/keys", "get", ALICE),
    ("/v1/consumers/{consumer}/keys", "post", ALICE),
    ("/v1/keys/{prefix}", "delete", {}),
    ("/v1/keys/{prefix}/rotate", "post", {}),
]


@asynccontextmanager
async def serving(folder):
    store, world = MemoryStore(), assemble({Path("world.yaml"): CONSUMERS})
    secret = pepper(folder / "pepper")
    _, text = await tokens.create(store, secret, "owner", Role.OWNER, now_ns=1)
    async with running(
        Settings(folder / "pepper", Address()),
        store=store,
        resources=Resources(store, None),
        endpoints=endpoints(store, secret, lambda: world, SystemClock()),
    ) as address:
        yield address.url, {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize(("path", "method", "known"), OPERATIONS)
async def test_every_answer_is_one_that_the_document_promises(tmp_path, path, method, known, mode):
    async with serving(tmp_path) as (url, headers):
        await asyncio.to_thread(keeps_promises, url, headers, path, method, mode, known)
