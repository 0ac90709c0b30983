"""Billing in the admin API keeps what its OpenAPI document promises, whatever is sent."""

import asyncio
from contextlib import asynccontextmanager
from datetime import date

import pytest
from schemathesis import GenerationMode
from support.billing import SetClock, Uses, opened_account
from support.promises import keeps_promises

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
    await desk.close("acme", by="test")
    made = Settings(folder / "pepper", Address())
    async with running(
        made, store=store, resources=Resources(store, None), endpoints=endpoints(desk)
    ) as address:
        yield address.url, {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
@pytest.mark.parametrize(("path", "method", "known"), OPERATIONS)
async def test_every_answer_is_one_that_the_document_promises(tmp_path, path, method, known, mode):
    async with serving(tmp_path) as (url, headers):
        await asyncio.to_thread(keeps_promises, url, headers, path, method, mode, known)
