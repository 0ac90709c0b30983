"""The portal as programs see it: who may do what, and what is refused."""

import asyncio
import re
from contextlib import suppress

import pytest
from support.portal import DAY, shop
from support.visitor import PASSWORD, visiting
from yarl import URL

from gateway import keyring
from gateway.billing.ledger import Entry, Ledger
from gateway.portal import accounts
from gateway.portal.sessions import LASTS
from wherry import audit
from wherry.store.sqlite import SqliteStore

WRONG, OTHER = "not the engine", "difference engine"

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
async def open_shop(tmp_path):
    async with shop(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ada(open_shop):
    async with visiting(open_shop.url) as visitor:
        assert (await visitor.sign_up()).path == "/?said=welcome"
        yield visitor


@pytest.fixture
async def eve(open_shop):
    async with visiting(open_shop.url) as visitor:
        await visitor.sign_up("Eve", "eve@example.com")
        yield visitor


async def test_strangers_see_what_is_public_and_nothing_else(open_shop):
    async with visiting(open_shop.url) as visitor:
        text = (await visitor.get("/")).text
        assert "Bookshop" in text
        assert "Weather" in text
        assert "Backstage" not in text
        assert (await visitor.get("/products/backstage")).status == 404
        assert (await visitor.get("/products/nothing")).status == 404
        for path in ("/keys", "/usage", "/invoices", "/account"):
            assert (await visitor.get(path)).path == f"/sign-in?next={path}"
        assert "Sign in" in (await visitor.get("/products/bookshop/try")).text
        assert (await visitor.post("/products/bookshop/try")).path == "/sign-in"


async def test_who_signs_up_becomes_a_consumer_of_their_own(open_shop, ada):
    name = await ada.consumer()
    consumer = open_shop.worlds.current.consumers[name]
    assert consumer.spec.title == "Ada"
    assert consumer.spec.email == "ada@example.com"
    assert consumer.spec.timezone == "Europe/Berlin"
    async with visiting(open_shop.url) as acme:
        await acme.sign_up("acme", "acme@example.com")
        assert (await acme.consumer()).startswith("acme-"), "never the acme of the file"


async def test_a_second_account_for_an_address_is_refused_and_leaves_no_consumer(open_shop, ada):
    async with visiting(open_shop.url) as other:
        page = await other.sign_up("Other", "ADA@example.com")
        assert page.status == 422
        assert "There is an account with this address" in page.text
    assert not [name for name in open_shop.worlds.current.consumers if name.startswith("other")]


async def test_a_wrong_sign_up_says_what_is_wrong_beside_the_field(open_shop):
    async with visiting(open_shop.url) as visitor:
        fields = {"title": "", "email": "nobody", "password": "short", "timezone": "Mars/Olympus"}
        page = await visitor.post("/sign-up", fields)
        assert page.status == 422
        for name in fields:
            assert f'id="{name}-fault"' in page.text
        assert "short" not in page.text


async def test_unknown_address_and_wrong_password_get_the_same_answer(open_shop, ada):
    async with visiting(open_shop.url) as visitor:
        wrong = await visitor.sign_in(secret=WRONG)
        unknown = await visitor.sign_in("nobody@example.com")
    assert wrong.status == unknown.status == 422
    assert wrong.text.replace("ada@", "nobody@") == unknown.text


async def test_too_many_failures_make_one_wait_and_others_do_not(tmp_path):
    async with shop(tmp_path, sign_ins=2) as open_shop, visiting(open_shop.url) as visitor:
        await visitor.sign_up()
        await visitor.post("/sign-out")
        for _ in range(2):
            assert (await visitor.sign_in(secret=WRONG)).status == 422
        page = await visitor.sign_in()
        assert page.status == 429
        assert int(page.headers["Retry-After"]) > 0
        assert (await visitor.sign_in("eve@example.com")).status == 422


async def test_cookies_are_for_this_site_only_and_pages_run_nothing_inline(open_shop):
    async with visiting(open_shop.url) as visitor:
        page = await visitor.get("/sign-in")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Cache-Control"] == "no-store"
        await visitor.sign_up()
        jar = {cookie.key: cookie for cookie in visitor.session.cookie_jar}
        for name in ("wherry_portal", "wherry_visit"):
            assert jar[name]["httponly"]
            assert jar[name]["samesite"] == "Strict"


@pytest.mark.parametrize(
    ("guard", "headers"),
    [
        ({"guard": ""}, {}),
        ({"guard": "0" * 64}, {}),
        ({}, {"Origin": "https://evil.example.com"}),
        ({}, {"Origin": "null"}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
    ],
)
async def test_a_form_of_another_site_is_refused(open_shop, ada, guard, headers):
    await ada.get("/keys")
    page = await ada.post("/keys", {"title": "stolen"} | guard, **headers)
    assert page.status == 403
    assert "You have no keys yet" in (await ada.get("/keys")).text


async def test_the_guard_of_another_browser_does_not_count(ada, eve):
    await eve.get("/keys")
    ada.guard = eve.guard
    assert (await ada.ask("POST", "/keys", data={"guard": eve.guard})).status == 403


async def test_a_page_on_the_web_cannot_point_its_own_name_at_the_portal(open_shop):
    async with visiting(open_shop.url) as visitor:
        assert (await visitor.get("/", Host="rebind.example.com")).status == 403


@pytest.mark.parametrize(
    "path", ["https://evil.example.com/", "//evil.example.com/", "/\\evil.example.com", "evil"]
)
async def test_signing_in_goes_on_to_this_site_only(open_shop, ada, path):
    await ada.post("/sign-out")
    await ada.get("/sign-in")
    url = f"/sign-in?next={URL.build(path=path).raw_path if path[0] == '/' else path}"
    page = await ada.post(url, {"email": "ada@example.com", "password": PASSWORD})
    assert page.path == "/?said=in"


async def test_signing_in_goes_back_to_the_page_that_asked_for_it(open_shop, ada):
    await ada.post("/sign-out")
    assert (await ada.get("/usage")).path == "/sign-in?next=/usage"
    fields = {"email": "ada@example.com", "password": PASSWORD}
    page = await ada.post("/sign-in?next=%2Fusage%3Fspan%3Dday", fields)
    assert page.path == "/usage?span=day&said=in"


async def test_a_session_ends_when_it_is_old_or_signed_out(open_shop, ada):
    jar = {cookie.key: cookie.value for cookie in ada.session.cookie_jar}
    await ada.get("/")
    await ada.post("/sign-out")
    stolen = {"Cookie": f"wherry_portal={jar['wherry_portal']}"}
    assert (await ada.get("/keys", **stolen)).path.startswith("/sign-in")
    await ada.sign_in()
    open_shop.clock.away_ns = LASTS * 10**9
    assert (await ada.get("/keys")).path.startswith("/sign-in")


async def test_another_password_signs_other_browsers_out(open_shop, ada):
    async with visiting(open_shop.url) as other:
        await other.sign_in()
        assert (await other.get("/keys")).status == 200
        await ada.get("/account")
        assert (
            await ada.post("/account/password", {"current": "no", "password": "x"})
        ).status == 422
        fields = {"current": PASSWORD, "password": OTHER}
        assert (await ada.post("/account/password", fields)).path == "/account?said=password"
        assert (await other.get("/keys")).path.startswith("/sign-in")
        assert (await other.sign_in()).status == 422
        assert (await other.sign_in(secret=OTHER)).path == "/?said=in"


async def test_a_subscription_is_made_switched_and_ended(open_shop, ada):
    name = await ada.consumer()

    def held():
        return sorted(
            (s.spec.plan, s.spec.state, s.spec.ends is None)
            for s in open_shop.worlds.current.subscriptions.values()
            if s.spec.consumer == name
        )

    path = "/products/bookshop/subscribe"
    assert (await ada.post(path, {"plan": "free"})).path == "/products/bookshop?said=subscribed"
    assert held() == [("free", "active", True)]
    open_shop.clock.away_ns = DAY // 4
    await ada.post(path, {"plan": "growth"})
    assert held() == [("growth", "active", True)], "one that began today goes without a trace"
    open_shop.clock.away_ns = 3 * DAY
    await ada.sign_in()
    await ada.post(path, {"plan": "free"})
    assert held() == [("free", "active", True), ("growth", "active", False)]
    assert "Your plan" in (await ada.get("/products/bookshop")).text
    await ada.post("/products/bookshop/end")
    assert held() == [("growth", "active", False)]
    assert (await ada.post("/products/bookshop/end")).status == 404


async def test_a_plan_with_approval_waits_and_the_old_one_counts_until_then(open_shop, ada):
    path = "/products/bookshop/subscribe"
    await ada.post(path, {"plan": "free"})
    page = await ada.post(path, {"plan": "partner"})
    assert page.path == "/products/bookshop?said=pending"
    name = await ada.consumer()
    held = {
        s.spec.plan: s.spec.state
        for s in open_shop.worlds.current.subscriptions.values()
        if s.spec.consumer == name
    }
    assert held == {"free": "active", "partner": "pending"}


@pytest.mark.parametrize("plan", ["", "nothing", "growth"])
async def test_a_plan_that_a_product_does_not_have_cannot_be_had(ada, plan):
    page = await ada.post("/products/weather/subscribe", {"plan": plan})
    assert page.status == 404


async def test_a_key_is_shown_once_and_opens_the_gateway(open_shop, ada):
    await ada.post("/products/bookshop/subscribe", {"plan": "free"})
    text = await ada.key()
    assert text not in (await ada.get("/keys")).text
    call = {"method": "GET", "path": "/books/1", "headers": [["x-api-key", text]]}
    async with asyncio.timeout(10):
        while (seen := await _tried(ada, call))["status"] == 401:
            await asyncio.sleep(0.02)
    assert seen["status"] == 200
    assert "Left Hand" in seen["body"]
    assert seen["whole"]


async def _tried(visitor, call, **headers):
    more = {"X-Guard": visitor.guard, "Accept": "application/json", **headers}
    async with visitor.session.post(
        visitor.url + "/products/bookshop/try", json=call, headers=more
    ) as answer:
        return await answer.json()


async def test_trying_a_call_leads_to_the_gateway_only(open_shop, ada):
    await ada.get("/")
    for path in ("//127.0.0.1:1/", "http://127.0.0.1:1/", "@127.0.0.1:1"):
        said = await _tried(ada, {"method": "GET", "path": path, "headers": []})
        assert "path" in said["detail"].lower()
    said = await _tried(ada, {"method": "GET", "path": "/a/../../books", "headers": []})
    assert said["status"] in {400, 401, 404}, "the gateway's own answer"
    said = await _tried(ada, {"method": "GET", "path": "/books", "headers": []}, **{"X-Guard": "x"})
    assert "too old" in said["detail"]


async def test_keys_are_rotated_and_revoked_by_their_owner_only(open_shop, ada, eve):
    await ada.key()
    prefix = re.search(r"wh_([a-z2-7]{8})_…", (await ada.get("/keys")).text)[1]
    await eve.get("/keys")
    for verb in ("rotate", "revoke"):
        assert (await eve.post(f"/keys/{prefix}/{verb}")).status == 404
    page = await ada.post(f"/keys/{prefix}/rotate", {f"ends-{prefix}": "7"})
    assert "Keep it somewhere safe" in page.text
    old = await keyring.found(open_shop.store, prefix)
    assert old.expires_ns - open_shop.clock.unix_ns() == pytest.approx(7 * DAY, rel=0.01)
    page = await ada.post("/keys", {"app": "default"})
    assert page.status == 422
    assert "2 live keys" in page.text
    assert (await ada.post(f"/keys/{prefix}/revoke")).path == "/keys?said=revoked"
    assert "Keys that no longer count (1)" in (await ada.get("/keys")).text
    log = await open_shop.store.read(audit.LOG)
    entries = [audit.Entry.decode(event.body) for event in log]
    changes = [each for each in entries if each.subject.startswith("key/")]
    assert [each.verb for each in changes] == ["createKey", "rotateKey", "revokeKey"]
    assert {each.actor.partition("-")[0] for each in changes} == {"portal:ada"}
    assert changes[-1].after["state"] == "revoked"


async def test_an_app_is_added_and_gets_keys_of_its_own(open_shop, ada):
    assert (await ada.post("/apps", {"name": "billing-job"})).path == "/keys?said=app"
    assert (await ada.post("/apps", {"name": "billing-job"})).status == 422
    assert (await ada.post("/apps", {"name": "Not a name!"})).status == 422
    await ada.post("/keys", {"app": "billing-job"})
    assert "<dd>billing-job</dd>" in (await ada.get("/keys")).text
    assert (await ada.post("/keys", {"app": "nobody"})).status == 404


async def test_usage_is_shown_against_the_quota_to_the_unit(open_shop, ada):
    await ada.post("/products/bookshop/subscribe", {"plan": "growth"})
    name = await ada.consumer()
    await open_shop.use(name, days=40)
    text = (await ada.get("/usage?product=bookshop&span=day")).text
    used = re.search(r"([\d,]+) of 20,000 requests used", text)[1]
    assert int(used.replace(",", "")) > 0
    assert "Quota 20,000" in text
    total = re.search(r"([\d,]+) in all", (await ada.get("/usage?span=month")).text)[1]
    assert int(total.replace(",", "")) >= int(used.replace(",", ""))
    for odd in ("?product=backstage", "?product=%3Cb%3E", "?span=ever"):
        assert (await ada.get(f"/usage{odd}")).status == 200


async def test_invoices_are_their_owners_alone(open_shop, ada, eve):
    await ada.post("/products/bookshop/subscribe", {"plan": "growth"})
    name = await ada.consumer()
    await open_shop.observe()
    await Ledger(open_shop.store).add(name, Entry("gift", 1, "EUR", 500, "Welcome.", "test"))
    assert "5.00 EUR" in (await ada.get("/invoices")).text
    open_shop.clock.away_ns = 40 * DAY
    await open_shop.close(name)
    await ada.sign_in()
    await eve.sign_in("eve@example.com")
    number = re.search(r'href="/invoices/(\d+)"', (await ada.get("/invoices")).text)[1]
    page = await ada.get(f"/invoices/{number}")
    assert f"Invoice {number}" in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]
    async with ada.session.get(f"{open_shop.url}/invoices/{number}.pdf") as answer:
        assert answer.content_type == "application/pdf"
        assert (await answer.read()).startswith(b"%PDF")
    for path in (f"/invoices/{number}", f"/invoices/{number}.pdf", "/invoices/..%2Fx"):
        assert (await eve.get(path)).status == 404
    assert "no invoices yet" in (await eve.get("/invoices")).text


async def test_a_change_of_plan_can_be_looked_at_before(open_shop, ada):
    await ada.post("/products/bookshop/subscribe", {"plan": "growth"})
    name = await ada.consumer()
    page = await ada.get("/products/bookshop/plans/free")
    assert "nothing to bill yet" in page.text
    await open_shop.observe()
    await open_shop.use(name, days=10)
    page = await ada.get("/products/bookshop/plans/free")
    assert page.status == 200
    assert re.search(r"\d+\.\d\d EUR", page.text)
    assert (await ada.get("/products/weather/plans/growth")).status == 404


async def test_the_address_behind_a_trusted_proxy_is_the_one_that_counts(tmp_path):
    gateway = (
        "---\napiVersion: wherry.dev/v1\nkind: ApiGateway\nmetadata: {name: default}\n"
        "spec: {trustedProxies: [127.0.0.1]}\n"
    )
    async with (
        shop(tmp_path, more=gateway, sign_ups=1) as open_shop,
        visiting(open_shop.url) as one,
        visiting(open_shop.url) as two,
    ):
        one.session.headers["X-Forwarded-For"] = "192.0.2.1"
        two.session.headers["X-Forwarded-For"] = "192.0.2.2"
        assert (await one.sign_up()).status == 200
        assert (await two.sign_up("Eve", "eve@example.com")).status == 200
        await two.post("/sign-out")
        assert (await two.sign_up("Eva", "eva@example.com")).status == 429


async def test_a_blocked_consumer_is_told_so(open_shop, ada):
    name = await ada.consumer()
    held = await open_shop.resources.get("Consumer", name)
    document = dict(held.document) | {"spec": {**held.document["spec"], "blocked": True}}
    await open_shop.resources.put(document, actor="test")
    async with asyncio.timeout(10):
        async for world in open_shop.worlds.follow():
            if world.consumers[name].spec.blocked:
                break
    assert "This account is blocked" in (await ada.get("/keys")).text


async def test_text_of_users_is_never_html(open_shop):
    async with visiting(open_shop.url) as visitor:
        await visitor.sign_up("<img src=x onerror=alert(1)>", "x@example.com")
        async with visitor.session.get(open_shop.url + "/account") as answer:
            text = await answer.text()
    assert "<img" not in text
    assert "&lt;img src=x" in text


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/sign-in", {"data": {"email": "a" * 5000}}),
        ("POST", "/sign-in", {"data": {"email": "a\r\nb"}}),
        ("POST", "/sign-in", {"data": b"x" * (600 << 10)}),
        ("POST", "/sign-in", {"data": b"email=\xff\xfe&guard=%ff", "headers": FORM}),
        ("POST", "/sign-in", {"data": b"a&" * 20_000, "headers": FORM}),
        ("POST", "/sign-in", {"data": b"--x", "headers": MULTIPART}),
        ("POST", "/sign-in", {"data": b"{}", "headers": {"Content-Type": "text/plain; charset=x"}}),
        ("GET", "/static/..%2fapp.py", {}),
        ("GET", "/static/app.py", {}),
        ("DELETE", "/keys", {}),
        ("GET", "/products/..%2f..%2fetc", {}),
    ],
)
async def test_odd_requests_are_refused_and_nothing_breaks(open_shop, method, path, more):
    async with visiting(open_shop.url) as visitor:
        page = await visitor.ask(method, path, **more)
        assert 400 <= page.status < 500
        assert (await visitor.get("/healthz")).text == "ok\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
async def test_who_sends_no_whole_head_is_hung_up_on(tmp_path, sent):
    async with shop(tmp_path, idle_seconds=1) as open_shop, asyncio.timeout(20):
        url = URL(open_shop.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_what_cannot_be_read_is_an_error_page_that_tells_nothing(open_shop, ada):
    [key] = await open_shop.store.list(accounts.FOLDER)
    await open_shop.store.put(key, b'{"email": "secret-thing"}')
    page = await ada.get("/account")
    assert page.status == 500
    assert "secret-thing" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


async def test_accounts_outlive_the_portal(tmp_path):
    path = tmp_path / "store.db"
    (tmp_path / "one").mkdir()
    async with (
        SqliteStore.open(path) as store,
        shop(tmp_path / "one", store=store) as open_shop,
        visiting(open_shop.url) as visitor,
    ):
        await visitor.sign_up()
        name = await visitor.consumer()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "pepper").rename(tmp_path / "two" / "pepper")
    async with (
        SqliteStore.open(path) as store,
        shop(tmp_path / "two", store=store) as open_shop,
        visiting(open_shop.url) as visitor,
    ):
        assert (await visitor.sign_in()).path == "/?said=in"
        assert await visitor.consumer() == name
