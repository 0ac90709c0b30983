"""The operations on keys keep what the OpenAPI document promises, whatever schemathesis sends."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

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

EXAMPLES = 15
CONSUMERS = "apiVersion: wherry.dev/v1\nkind: Consumer\nmetadata: {name: alice}\n"
OPERATIONS = [
    ("/v1/consumers/{consumer}/keys", "get"),
    ("/v1/consumers/{consumer}/keys", "post"),
    ("/v1/keys/{prefix}", "delete"),
    ("/v1/keys/{prefix}/rotate", "post"),
]
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.ignored_auth,
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


def fuzzed(url, headers, path, method, mode):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def holds(case):
        if "consumer" in case.path_parameters and mode is GenerationMode.POSITIVE:
            case.path_parameters["consumer"] = "alice"
        case.call_and_validate(headers=headers, checks=CHECKS)

    holds()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
async def test_every_answer_is_one_that_the_document_promises(tmp_path, path, method, mode):
    async with serving(tmp_path) as (url, headers):
        await asyncio.to_thread(fuzzed, url, headers, path, method, mode)
