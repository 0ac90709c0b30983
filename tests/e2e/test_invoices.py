"""From calls in the gateway's log to invoices, over the admin API and on the command line."""

import asyncio
import json
from collections import namedtuple
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date

import aiohttp
import pytest
from support import redis
from support.billing import SetClock, Uses, opened_account, utc
from typer.testing import CliRunner

from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.billing.balances import Balances
from gateway.billing.biller import Biller
from gateway.billing.books import Books
from gateway.billing.closing import Closer
from gateway.billing.desk import Desk
from gateway.billing.endpoints import endpoints
from gateway.billing.periods import Month
from gateway.billing.source import Metered
from gateway.billing.terms import Term
from gateway.metering.batch import encoded
from gateway.pepper import pepper
from gateway.usage import LOG, Usage
from wherry.audit import LOG as AUDIT
from wherry.cli.invoices import app, credit
from wherry.config import load
from wherry.config.watch import Worlds
from wherry.errors import WherryError
from wherry.model.pricing import Price, Recurring
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store import opened

pytestmark = pytest.mark.e2e

HOUSE = """
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: weather}
spec:
  plans: [basic, pro]
  routes: [{path: /weather, to: {mock: {text: sunny}}}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
spec:
  price:
    currency: EUR
    setup: "5"
    recurring: {amount: "30"}
    usage: [{model: perUnit, unit: "0.01", included: 100}]
    shares: [{party: met-office, percent: "20"}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: pro}
spec:
  price: {currency: EUR, recurring: {amount: "90"}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: acme}
spec:
  title: Acme & Sons
  email: bill@acme.example
  subscriptions: [{product: weather, plan: basic, begins: "2026-01-01"}]
"""


def used(at, count, *, name="u", consumer="acme", status=200, refused=False):
    return [
        Usage(
            id=f"{name}-{at}-{place}",
            at_ns=utc(at),
            consumer=consumer,
            app="default",
            product="weather",
            operation="today",
            plan="basic",
            credential="ab12cd34",
            status=status,
            amounts={"requests": 1},
            refused=refused,
        )
        for place in range(count)
    ]


House = namedtuple("House", "store clock biller world url session texts folder")


@asynccontextmanager
async def billing(folder):
    config = folder / "config"
    config.mkdir()
    (config / "house.yaml").write_text(HOUSE)
    clock = SetClock("2026-10-05T00:00")
    state = folder / "state"
    state.mkdir()
    async with opened(f"sqlite:{state / 'wherry.db'}") as store:
        secret, texts = pepper(folder / "pepper"), {}
        for role in Role:
            name = role.name.lower()
            _, texts[name] = await tokens.create(store, secret, name, role, now_ns=1)
        async with (
            running(
                Settings(folder / "pepper", Address()),
                store=store,
                resources=Resources(store, config),
                endpoints=endpoints(Desk(store, clock)),
            ) as address,
            aiohttp.ClientSession() as session,
        ):
            biller = Biller(store, Metered(store), clock)
            world = load(config)
            await biller.tick(world)
            yield House(store, clock, biller, world, address.url, session, texts, state)


@pytest.fixture
async def house(tmp_path):
    async with billing(tmp_path) as served:
        yield served


async def record(house, uses, each="batch"):
    for place, body in enumerate(encoded(uses)):
        await house.store.append(LOG, [(f"{each}-{place}", body)])


async def ask(house, method, path, body=None, *, role="viewer", **headers):
    headers.setdefault("Authorization", f"Bearer {house.texts[role]}")
    sent = {} if body is None else {"json": body}
    async with house.session.request(method, house.url + path, headers=headers, **sent) as answer:
        read = await answer.read()
        kind = answer.content_type
        return answer.status, answer.headers, json.loads(read) if "json" in kind else read


async def closed(house):
    await record(house, used("2026-10-10T12:00", 350))
    await record(house, used("2026-10-11T12:00", 40, status=503, name="failed"), "failed")
    await record(house, used("2026-10-11T13:00", 40, status=429, refused=True, name="no"), "no")
    await record(house, used("2026-10-10T12:00", 350))
    house.clock.set("2026-11-01T02:00")
    await house.biller.tick(house.world)


async def test_calls_become_an_invoice_that_counts_what_was_served(house):
    await closed(house)
    status, _, invoice = await ask(house, "GET", "/v1/invoices/00000001")
    assert status == 200
    assert [(line["text"], line["quantity"], line["amount"]) for line in invoice["lines"]] == [
        ("Setup", None, "5.00"),
        ("Monthly fee", None, "30.00"),
        ("requests, included", 100, "0.00"),
        ("requests", 250, "2.50"),
    ]
    assert (invoice["total"], invoice["credit"], invoice["due"]) == ("37.50", "0.00", "37.50")
    assert invoice["consumer"]["title"] == "Acme & Sons"
    assert [each["amount"] for each in invoice["parties"]] == ["7.50"]


async def test_an_invoice_comes_in_the_form_that_is_asked_for(house):
    await closed(house)
    path = "/v1/invoices/1"
    _, headers, text = await ask(house, "GET", path, Accept="text/html,application/json;q=0.9")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"Acme &amp; Sons" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    _, headers, text = await ask(house, "GET", path + "?format=pdf", Accept="text/html")
    assert (headers["Content-Type"], text[:5]) == ("application/pdf", b"%PDF-")
    assert (await ask(house, "GET", path, Accept="image/png"))[0] == 406
    assert (await ask(house, "GET", path + "?format=doc"))[0] == 400
    for unknown in ("2", "0", "x", "-1", "9" * 30):
        assert (await ask(house, "GET", f"/v1/invoices/{unknown}"))[0] == 404


async def test_invoices_are_listed_page_by_page(house):
    await closed(house)
    for month in ("2026-12-01T02:00", "2027-01-01T02:00"):
        house.clock.set(month)
        await house.biller.tick(house.world)
    _, _, first = await ask(house, "GET", "/v1/invoices?limit=2")
    assert [each["number"] for each in first["items"]] == ["00000001", "00000002"]
    _, _, second = await ask(house, "GET", f"/v1/invoices?limit=2&cursor={first['next']}")
    assert [each["number"] for each in second["items"]] == ["00000003"]
    assert "next" not in second
    _, _, theirs = await ask(house, "GET", "/v1/invoices?consumer=acme")
    assert len(theirs["items"]) == 3
    _, _, others = await ask(house, "GET", "/v1/invoices?consumer=nobody")
    assert others["items"] == []
    for wrong in ("limit=0", "limit=501", "cursor=x", "page=1"):
        assert (await ask(house, "GET", f"/v1/invoices?{wrong}"))[0] == 400


async def test_a_month_is_closed_by_an_owner_and_only_when_it_is_over(house):
    path = "/v1/consumers/acme/close"
    body = {"month": "2026-10"}
    assert (await ask(house, "POST", path, body, role="editor"))[0] == 403
    status, _, problem = await ask(house, "POST", path, body, role="owner")
    assert status == 409
    assert problem["detail"] == (
        "consumer 'acme' month 2026-10: not over, expected one that ended."
    )
    house.clock.set("2026-11-01T00:00")
    status, _, answer = await ask(house, "POST", path, body, role="owner")
    assert (status, answer["items"][0]["number"]) == (200, "00000001")
    assert answer["items"][0]["parties"] == [
        {"product": "weather", "plan": "basic", "party": "met-office", "amount": "7.00"}
    ]
    assert (await ask(house, "POST", path, body, role="owner"))[2] == answer
    for wrong in ({"month": "2026-13"}, {"month": 3}, {"year": "2026"}):
        assert (await ask(house, "POST", path, wrong, role="owner"))[0] == 422
    assert (await ask(house, "POST", "/v1/consumers/no/close", {}, role="owner"))[0] == 404
    notes = [json.loads(event.body) for event in await house.store.read(AUDIT)]
    assert [(note["actor"], note["verb"], note["subject"]) for note in notes] == [
        ("owner", "closeMonth", "period/acme")
    ] * 2


async def test_credit_is_given_once_for_each_id_and_pays_the_next_invoice(house):
    path = "/v1/consumers/acme/credits"
    body = {"id": "pay-1", "amount": "10.00", "currency": "EUR", "reason": "bank transfer"}
    assert (await ask(house, "POST", path, body, role="editor"))[0] == 403
    for _ in range(2):
        status, _, answer = await ask(house, "POST", path, body, role="owner")
        assert (status, answer["balances"]) == (200, {"EUR": "10.00"})
    assert [entry["by"] for entry in answer["entries"]] == ["owner"]
    status, _, problem = await ask(house, "POST", path, body | {"amount": "11"}, role="owner")
    assert (status, problem["detail"]) == (
        409,
        "credit 'pay-1': written with 10.00 EUR, expected 11.00 EUR or a new id.",
    )
    for wrong in ({"amount": "1.001"}, {"currency": "XXX"}, {"amount": 5}, {"reason": ""}):
        assert (await ask(house, "POST", path, body | wrong, role="owner"))[0] == 422
    await closed(house)
    _, _, invoice = await ask(house, "GET", "/v1/invoices/1")
    assert (invoice["credit"], invoice["due"]) == ("10.00", "27.50")
    assert (await ask(house, "GET", path))[2]["balances"] == {"EUR": "0.00"}
    assert (await ask(house, "GET", "/v1/consumers/nobody/credits"))[0] == 404


async def test_the_open_month_and_another_plan_can_be_looked_at(house):
    await closed(house)
    await record(house, used("2026-11-03T12:00", 120, name="new"), "new")
    house.clock.set("2026-11-10T00:00")
    _, _, draft = await ask(house, "GET", "/v1/consumers/acme/draft")
    assert [(each["number"], each["total"]) for each in draft["items"]] == [("draft", "30.20")]
    path = "/v1/consumers/acme/preview?product=weather&plan=pro&months=2"
    _, _, found = await ask(house, "GET", path)
    assert [(each["month"], each["now"], each["then"]) for each in found["items"]] == [
        ("2026-10", {"EUR": "32.50"}, {"EUR": "90.00"}),
        ("2026-11", {"EUR": "30.20"}, {"EUR": "90.00"}),
    ]
    assert (await ask(house, "GET", path.replace("pro&", "none&")))[0] == 404
    assert (await ask(house, "GET", path.replace("months=2", "months=25")))[0] == 400
    assert (await ask(house, "GET", "/v1/consumers/acme/preview"))[0] == 400


async def test_usage_that_comes_after_the_close_is_a_line_of_the_next_invoice(house):
    await closed(house)
    await record(house, used("2026-10-31T23:59", 60, name="late"), "late")
    house.clock.set("2026-12-01T02:00")
    await house.biller.tick(house.world)
    _, _, november = await ask(house, "GET", "/v1/invoices/2")
    assert [(line["kind"], line["text"], line["amount"]) for line in november["lines"]] == [
        ("recurring", "Monthly fee", "30.00"),
        ("correction", "October 2026, recorded late: 60 requests", "0.60"),
    ]
    _, _, october = await ask(house, "GET", "/v1/invoices/1")
    assert october["total"] == "37.50"


# Several gateways


@asynccontextmanager
async def clients(kind, folder, count):
    """Yield stores of one database, as that many processes would have them."""
    async with AsyncExitStack() as stack:
        url = f"sqlite:{folder / 'wherry.db'}"
        if kind == "redis":
            url = stack.enter_context(redis.serving(folder)).url
        yield [await stack.enter_async_context(opened(url)) for _ in range(count)]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_billers_that_race_give_each_invoice_one_number_and_leave_no_gap(tmp_path, kind):
    clock, uses, names = SetClock("2026-11-01T02:00"), Uses(), [f"c{place}" for place in range(6)]
    price = Price(currency="EUR", recurring=Recurring(amount="30"))
    terms = (Term("weather", "", "basic", date(2026, 1, 1)),)
    async with clients(kind, tmp_path, 3) as stores:
        for name in names:
            await opened_account(stores[0], consumer=name, terms=terms, basic=price)
        async with asyncio.TaskGroup() as group:
            for store in stores:
                for name in names:
                    closer = Closer(store, uses, clock)
                    group.create_task(closer.close(name, Month(2026, 10)))
        found = await Books(stores[0]).invoices()
    assert [invoice.number for invoice in found] == list(range(1, 7))
    assert sorted(invoice.consumer for invoice in found) == names


# Prepaid


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_calls_stop_when_credit_is_used_up_and_go_on_after_a_payment(tmp_path):
    (tmp_path / "house.yaml").write_text(HOUSE.replace("setup:", "prepaid: true\n    setup:"))
    clock = SetClock("2026-11-05T00:00")
    worlds = Worlds(load(tmp_path))
    async with opened(f"sqlite:{tmp_path / 'wherry.db'}") as store, asyncio.TaskGroup() as group:
        balances, desk = Balances(store), Desk(store, clock)
        biller = Biller(store, Metered(store), clock, look=0.01)
        tasks = [group.create_task(balances.follow()), group.create_task(biller.run(worlds))]
        await until(lambda: balances.stopped("acme", "weather"))
        given = {"reason": "card", "by": "test"}
        await desk.add_credit("acme", "35.50", "EUR", **given)
        await until(lambda: not balances.stopped("acme", "weather"))
        (body,) = encoded(used("2026-11-04T12:00", 150))
        await store.append(LOG, [("calls", body)])
        await until(lambda: balances.stopped("acme", "weather"))
        await desk.add_credit("acme", "0.01", "EUR", **given)
        await until(lambda: not balances.stopped("acme", "weather"))
        for task in tasks:
            task.cancel()


# The command line


def command(house, typed, *words, cli=app):
    found = CliRunner().invoke(cli, [*words, "--state", str(house.folder)])
    assert found.exit_code == 0, found.output + repr(found.exception)
    return json.loads(found.stdout) if typed else found.stdout


async def in_thread(*args, **more):
    return await asyncio.to_thread(command, *args, **more)


async def test_invoices_are_read_and_exported_on_the_command_line(house, tmp_path):
    await closed(house)
    [listed] = await in_thread(house, True, "list", "--json")
    assert (listed["number"], listed["due"]) == ("00000001", "37.50")
    assert "37.50" in await in_thread(house, False, "list")
    shown = await in_thread(house, True, "show", "1", "--json")
    assert shown["parties"][0]["amount"] == "7.50"
    assert "requests, included" in await in_thread(house, False, "show", "1")
    out = tmp_path / "i.pdf"
    await in_thread(house, False, "pdf", "1", "--to", str(out))
    assert out.read_bytes()[:5] == b"%PDF-"
    await in_thread(house, False, "export", "--to", str(tmp_path / "out"))
    assert (tmp_path / "out" / "00000001.html").exists()
    items = await in_thread(house, False, "export", "--stripe", "cus_1", "--consumer", "acme")
    assert sum(json.loads(line)["amount"] for line in items.splitlines()) == 3750


async def test_months_are_closed_and_compared_on_the_command_line(house):
    await closed(house)
    [again] = await in_thread(house, True, "close", "acme", "--month", "2026-10", "--json")
    assert (again["number"], again["total"]) == ("00000001", "37.50")
    [november] = await in_thread(house, True, "draft", "acme", "--json")
    assert (november["number"], november["period"]["month"]) == ("draft", "2026-11")
    compared = await in_thread(house, True, "preview", "acme", "weather", "pro", "--json")
    assert len(compared) == 3
    assert "under pro" in await in_thread(house, False, "preview", "acme", "weather", "pro")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "7"], "invoice 00000007: not found"),
        (["close", "nobody"], "consumer 'nobody': not known to billing"),
        (["close", "acme", "--month", "11"], "month '11': expected one like '2026-11'"),
        (["preview", "acme", "weather", "gold"], "plan 'gold': no price known"),
        (["export"], "expected exactly one of --to, --webhook and --stripe"),
        (["export", "--stripe", "cus_1"], "no --consumer"),
        (["export", "--webhook", "http://127.0.0.1:9"], "WHERRY_WEBHOOK_SECRET is not set"),
    ],
)
async def test_a_wrong_command_says_what_was_expected(house, words, said):
    words = [*words, "--state", str(house.folder)]
    found = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert isinstance(found.exception, WherryError)
    assert said in str(found.exception)


async def test_credit_is_given_on_the_command_line(house):
    words = ("add", "acme", "12.50", "EUR", "--reason", "bank transfer", "--id", "pay-7", "--json")
    for _ in range(2):
        given = await in_thread(house, True, *words, cli=credit)
        assert given["balances"] == {"EUR": "12.50"}
    assert "12.50 EUR" in await in_thread(house, False, "show", "acme", cli=credit)
