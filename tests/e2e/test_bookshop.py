"""The bookshop: what is called is counted, what is counted is billed, to the cent."""

import asyncio
import json
import re
import subprocess
import sysconfig
from collections import Counter
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from os import environ, getenv
from pathlib import Path

import aiohttp
import pytest
import yaml
from support.house import EXAMPLES, house

from faas.image.built import QEMU, find
from gateway.metering.batch import Key
from gateway.metering.rollup import used
from wherry.store import opened

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BOOKS, ORDERS, ADVICE = "/shop/books", "/shop/orders", "/shop/advice"
ADVICE_TOKENS = 14
"""Words that the function says to a reader whose name is one."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    if find(QEMU) is None and not getenv("CI"):
        pytest.skip("QEMU is not installed; run: wherry faas setup")
    folder = tmp_path_factory.mktemp("bookshop")
    with house(folder, "--backend", "qemu", example="bookshop") as running:
        (folder / ".wherry").symlink_to(running.state)
        yield running


@pytest.fixture
async def client(shop):
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(shop.addresses["gateway"], timeout=timeout) as session:
        yield session


@pytest.fixture
async def admin(shop):
    token = (shop.state / "admin-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(shop.addresses["admin"], headers=headers) as session:
        yield session


def apply(shop, tmp_path, text):
    """Write resources as a user does with a file of them."""
    path = tmp_path / "resources.yaml"
    path.write_text(text)
    return shop.wherry("apply", str(path))


async def subscribed(admin, consumer, plan="growth", product="bookshop", more=""):
    """Return what a new consumer sends with each call."""
    text = f"""apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: {consumer}}}
spec: {{subscriptions: [{{product: {product}, plan: {plan}}}]}}
{more}"""
    documents = {"documents": list(yaml.safe_load_all(text))}
    async with admin.post("/v1/apply", json=documents) as answer:
        assert answer.status == 200, await answer.text()
    return await new_key(admin, consumer)


async def new_key(admin, consumer, **wanted):
    async def made():
        async with admin.post(f"/v1/consumers/{consumer}/keys", json=wanted) as answer:
            return await answer.json() if answer.status == 201 else None

    return {"x-api-key": (await eventually(made))["key"]}


async def eventually(check, *, within=15.0):
    """Return what ``check`` returns once that is true; fail after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not (found := await check()):
            await asyncio.sleep(0.05)
        return found


async def status(client, path, headers, **more):
    async with client.request("POST" if more else "GET", path, headers=headers, **more) as answer:
        await answer.read()
        return answer.status


async def serves(client, path, headers):
    """Return when the gateway knows what was applied."""

    async def known():
        return await status(client, path, headers) == 200

    await eventually(known)


async def sums(shop, consumer):
    """Return what the store says that ``consumer`` used, by meter."""
    async with opened(f"sqlite:{shop.state / 'wherry.db'}") as store:
        found = await used(store, consumer=consumer, begins_ns=0, ends_ns=2 * 10**18)
    total = Counter()
    for key, value in found.items():
        assert isinstance(key, Key)
        total[key.meter] += value.billed_amount
    return dict(total)


def limit(answer, name):
    """Return what the answer says is left of a limit."""
    return int(re.search(rf'"{name}";r=(\d+)', answer.headers["RateLimit"])[1])


def test_every_command_of_the_readme_does_what_it_says(shop):
    readme = (EXAMPLES / "bookshop" / "README.md").read_text()
    script = "\n".join(re.findall(r"^```\n(.*?)^```", readme, re.M | re.S))
    for port, part in (("8000", "gateway"), ("8001", "admin"), ("8002", "portal")):
        script = script.replace(f"http://127.0.0.1:{port}", shop.addresses[part])
    programs = sysconfig.get_path("scripts")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=shop.source.parent,
        env={**environ, "PATH": f"{programs}:{environ['PATH']}", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = re.findall(r"# (\d{3}):", readme)
    assert re.findall(r"HTTP/1.1 (\d{3}) ", done.stdout) == expected
    assert "Cache-Status: wherry; hit" in done.stdout
    free = {code: int(count) for count, code in re.findall(r" +(\d+) (\d{3})$", done.stdout, re.M)}
    assert free["200"] + free["429"] == 20
    assert 10 <= free["200"] <= 15  # its burst, and what flows back meanwhile
    assert re.search(r"bookstore +bookshop +growth +tokens +14", done.stdout)
    assert "+ Consumer library" in done.stdout
    assert "+ ApiProduct stories" in done.stdout


async def test_a_wrong_request_is_refused_with_the_place_of_each_mistake(client, admin):
    headers = await subscribed(admin, "careless")
    await serves(client, BOOKS, headers)
    wrong = {"book": "walden", "copies": 0, "colour": "red"}
    async with client.post(ORDERS, json=wrong, headers=headers) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        places = {each["where"] for each in (await answer.json())["violations"]}
        assert places == {"body/copies", "body"}
    async with client.get(f"{BOOKS}/Nope", headers=headers) as answer:
        assert [each["where"] for each in (await answer.json())["violations"]] == ["path id"]


async def test_what_was_called_is_what_is_counted_and_billed(shop, client, admin):
    plan = """---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: exact}
spec:
  public: false
  quotas: [{name: month, limit: 1000, window: month}]
  price:
    currency: EUR
    setup: "25.00"
    recurring: {amount: "31.00"}
    usage:
    - meter: requests
      model: graduated
      included: 3
      tiers: [{upTo: 10, unit: "0.105"}, {unit: "0.05"}]
    - {meter: tokens, model: bundle, size: 10, amount: "0.50"}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: counted}
spec:
  plans: [exact]
  scopes: {orders: Place orders}
  routes:
  - {path: "/counted/books/{id}", to: {service: shop, rewrite: "/books/{id}"}}
  - {path: /counted/orders, methods: [POST], scopes: [orders], cost: 5,
     to: {service: shop, rewrite: /orders}}
  - {path: /counted/advice, to: {function: recommend},
     traffic: {meters: [{meter: tokens, header: x-tokens}]}}
"""
    headers = await subscribed(admin, "exactly", "exact", "counted", plan)
    await serves(client, "/counted/books/walden", headers)  # 1
    order = {"book": "walden", "copies": 1}
    async with client.post("/counted/orders", json=order, headers=headers) as answer:  # 5
        before = limit(answer, "month")
    async with client.post("/counted/orders", json=order, headers=headers) as answer:  # 5
        assert answer.status == 201
        assert limit(answer, "month") == before - 5
    reads = await new_key(admin, "exactly", scopes=["reading"])
    assert await status(client, "/counted/orders", reads, json=order) == 403  # nothing
    assert await status(client, "/counted/orders", {"x-api-key": "no"}, json=order) == 401
    assert await status(client, "/counted/books/none", headers) == 404  # 1: an answer
    assert await status(client, "/counted/advice?reader=Ishmael", headers) == 200  # 1, and tokens
    assert await status(client, "/counted/books/walden", reads) == 200  # 1

    async def counted():
        return await sums(shop, "exactly") == {"requests": 14, "tokens": ADVICE_TOKENS}

    await eventually(counted)
    cents = Decimal("0.01")
    today = datetime.now(UTC)
    after = today.replace(day=28).toordinal() + 4
    last = after - datetime.fromordinal(after).day
    days = last - today.toordinal() + 1
    of = datetime.fromordinal(last).day
    fee = (Decimal("31.00") * days / of).quantize(cents, ROUND_HALF_UP)
    # 3 included; 4 to 10 at 0.105 are 0.735; 11 to 14 at 0.05 are 0.20; 14 tokens are two bundles
    usage = [Decimal("0.74"), Decimal("0.20"), Decimal("1.00")]
    total = Decimal("25.00") + fee + sum(usage)

    async def billed():
        async with admin.get("/v1/consumers/exactly/draft") as answer:
            drafts = await answer.json() if answer.status == 200 else None
        return drafts and drafts.get("items")

    [draft] = await eventually(billed)
    assert Decimal(draft["total"]) == total, draft
    [shown] = json.loads(shop.wherry("invoice", "draft", "exactly", "--json"))
    assert shown["total"] == str(total)
    lines = {line["text"]: Decimal(line["amount"]) for line in shown["lines"]}
    assert lines.pop("Setup") == Decimal("25.00")
    assert lines.pop("requests, included") == 0
    assert [lines.pop(text) for text in list(lines) if "fee" in text] == [fee]
    assert list(lines.values()) == usage


async def test_a_preview_rates_the_same_calls_by_another_plan(shop, client, admin):
    plan = """---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: metered}
spec: {public: false, price: {currency: KWD, usage: [{model: perUnit, unit: "0.0015"}]}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: previewed}
spec: {plans: [free, metered], routes: [{path: /previewed, to: {service: shop, rewrite: /books}}]}
"""
    headers = await subscribed(admin, "thinking", "free", "previewed", plan)
    await serves(client, "/previewed", headers)
    assert [await status(client, "/previewed", headers) for _ in range(4)] == [200] * 4

    async def counted():
        return await sums(shop, "thinking") == {"requests": 5}

    await eventually(counted)

    def preview():
        said = shop.wherry("invoice", "preview", "thinking", "previewed", "metered", "--json")
        return json.loads(said)[-1]

    month = await asyncio.to_thread(preview)
    assert month["then"] == {
        "KWD": "0.008"
    }  # 5 times 0.0015 is 0.0075, which a dinar has no place for
    assert month["now"] == {}


async def test_a_quota_that_is_lowered_holds_at_once_and_says_what_was_used_up(shop, client, admin):
    headers = await new_key(admin, "reader")
    shop.edit("products.yaml", "limit: 100, window: day", "limit: 3, window: day")

    async def refused():
        async with client.get(f"{BOOKS}/walden", headers=headers) as answer:
            if answer.status == 200:
                return None
            assert answer.status == 429
            return answer.headers.copy(), await answer.json()

    fields, problem = await eventually(refused)
    assert problem["violated-policies"] == ["day"]
    assert problem["type"].endswith("quota-exceeded")
    assert '"day";q=3;w=86400' in fields["RateLimit-Policy"]
    assert 1 <= int(fields["Retry-After"]) <= 86_400
    shop.edit("products.yaml", "limit: 3, window: day", "limit: 100, window: day")
    await serves(client, f"{BOOKS}/walden", headers)


async def test_a_plan_that_is_applied_again_changes_limits_without_a_restart(
    shop, client, admin, tmp_path
):
    plan = """---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: changing}
spec: {public: false, rate: {requests: 7, per: 1s}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: changed}
spec: {plans: [changing], routes: [{path: /changed, to: {service: shop, rewrite: /books}}]}
"""
    headers = await subscribed(admin, "fickle", "changing", "changed", plan)

    async def says(policy):
        async with client.get("/changed", headers=headers) as answer:
            return answer.headers.get("RateLimit-Policy") == policy

    await eventually(lambda: says('"changing";q=7;w=1'))
    said = apply(shop, tmp_path, plan.replace("requests: 7", "requests: 8"))
    assert "/spec/rate/requests: 7 -> 8" in said
    await eventually(lambda: says('"changing";q=8;w=1'))
    exported = shop.wherry("export")
    assert "name: changing" in exported
    assert "requests: 8" in exported
    assert "name: growth" not in exported  # a file declares it


async def test_an_openapi_document_becomes_a_product_that_answers(shop, client, admin, tmp_path):
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Bookmobile", "version": "1"},
        "servers": [{"url": "https://books.example.com/"}],
        "paths": {
            "/books/{id}": {
                "get": {
                    "operationId": "oneBook",
                    "parameters": [{"name": "id", "in": "path", "required": True, "schema": {}}],
                    "responses": {"200": {"description": "It"}},
                }
            }
        },
    }
    path = tmp_path / "bookmobile.json"
    path.write_text(json.dumps(document))
    options = ("--service", "shop", "--plan", "growth", "--apply")
    said = shop.wherry("api", "import", str(path), *options)
    assert "+ ApiProduct bookmobile" in said
    [route] = re.findall(r"path: (\S+)", shop.wherry("export").partition("bookmobile")[2])[:1]
    headers = await subscribed(admin, "driver", product="bookmobile")
    await serves(client, route.format(id="walden"), headers)


async def test_the_admin_api_wants_its_token_and_the_portal_shows_what_is_sold(shop, admin):
    async with aiohttp.ClientSession() as nobody:
        async with nobody.get(shop.addresses["admin"] + "/v1/products") as answer:
            assert answer.status == 401
        async with nobody.get(shop.addresses["portal"] + "/") as answer:
            assert answer.status == 200
            assert "Bookshop" in await answer.text()
    async with admin.get("/v1/products/bookshop") as answer:
        assert answer.status == 200
        assert answer.headers["ETag"]
    async with admin.get("/v1/audit") as answer:
        assert answer.status == 200


def test_the_readme_stands_beside_what_it_tells_of():
    named = re.findall(r"^\| `(\S+)` \|", (EXAMPLES / "bookshop/README.md").read_text(), re.M)
    assert named
    assert all((EXAMPLES / "bookshop" / Path(name)).exists() for name in named)
