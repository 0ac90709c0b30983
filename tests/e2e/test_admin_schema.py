"""The admin API keeps what its OpenAPI document promises, whatever schemathesis sends."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

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

EXAMPLES = 10
"""For each operation and each kind of input."""

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.ignored_auth,
    openapi_checks.unsupported_method,
]


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


def fuzzed(url, headers, path, method, mode):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operation = schema[path][method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case):
        case.call_and_validate(headers=headers, checks=CHECKS)

    holds()


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
        await asyncio.to_thread(fuzzed, url, headers, path, method, mode)
