"""Billing in the admin API keeps what its OpenAPI document promises, whatever is sent."""

import asyncio
from contextlib import asynccontextmanager
from datetime import date

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks
from support.billing import SetClock, Uses, opened_account

from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.billing.desk import Desk
from gateway.billing.endpoints import endpoints
from gateway.billing.terms import Term
from gateway.pepper import pepper
from wherry.model.pricing import Price, Recurring
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.ignored_auth,
]

CONSUMER = {"consumer": "acme"}
OPERATIONS = [
    ("/v1/invoices", "get", {}),
    ("/v1/invoices/{number}", "get", {"number": "00000001"}),
    ("/v1/invoices/{number}", "get", {}),
    ("/v1/consumers/{consumer}/draft", "get", CONSUMER),
    ("/v1/consumers/{consumer}/preview", "get", CONSUMER),
    ("/v1/consumers/{consumer}/credits", "get", CONSUMER),
    ("/v1/consumers/{consumer}/credits", "post", CONSUMER),
    ("/v1/consumers/{consumer}/close", "post", CONSUMER),
    ("/v1/consumers/{consumer}/close", "post", {}),
]


@asynccontextmanager
async def serving(folder):
    store, clock = MemoryStore(), SetClock("2026-11-10T00:00")
    secret = pepper(folder / "pepper")
    _, text = await tokens.create(store, secret, "owner", Role.OWNER, now_ns=1)
    terms = (Term("api", "", "basic", date(2026, 1, 1)),)
    price = Price(currency="EUR", recurring=Recurring(amount="30"))
    await opened_account(store, terms=terms, basic=price)
    desk = Desk(store, clock, Uses())
    await desk.close("acme")
    made = Settings(folder / "pepper", Address())
    async with running(
        made, store=store, resources=Resources(store, None), endpoints=endpoints(desk)
    ) as address:
        yield address.url, {"Authorization": f"Bearer {text}"}


def fuzzed(url, headers, path, method, known, mode):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")

    @settings(
        max_examples=10,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def holds(case):
        if mode is GenerationMode.POSITIVE:
            case.path_parameters = {**(case.path_parameters or {}), **known}
        case.call_and_validate(headers=headers, checks=CHECKS)

    holds()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize(("path", "method", "known"), OPERATIONS)
async def test_every_answer_is_one_that_the_document_promises(tmp_path, path, method, known, mode):
    async with serving(tmp_path) as (url, headers):
        await asyncio.to_thread(fuzzed, url, headers, path, method, known, mode)
