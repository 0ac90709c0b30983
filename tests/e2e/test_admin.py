"""The admin API over HTTP: the catalogue, who may change it, and what is refused."""

import asyncio
import io
import json
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.admin.first import NAME, first_token
from gateway.pepper import pepper
from wherry.audit import LOG, Entry
from wherry.clock import SystemClock
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

FILE = "apiVersion: wherry.dev/v1\nkind: Plan\nmetadata: {name: filed}\n"


def plan(name="gold", **spec):
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": "Plan",
        "metadata": {"name": name},
        "spec": spec,
    }


def product(name="shop", **spec):
    routes = [{"path": "/x", "to": {"mock": {"text": "x"}}}]
    return plan(name) | {
        "kind": "ApiProduct",
        "spec": {"routes": routes, "plans": ["gold"], **spec},
    }


class Api:
    """The running admin API, asked with a token of each role."""

    def __init__(self, address, session, store, folder, texts):
        self.address, self.session, self.store = address, session, store
        self.folder, self.texts = folder, texts

    async def __call__(self, method, path, body=None, *, role="editor", **headers):
        if role is not None:
            headers.setdefault("Authorization", f"Bearer {self.texts.get(role, role)}")
        sent = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        async with self.session.request(
            method, self.address.url + path, headers=headers, **(sent if body is not None else {})
        ) as answer:
            text = await answer.text()
            read = json.loads(text) if "json" in answer.content_type else text
            return answer.status, answer.headers, read

    async def noted(self):
        return [Entry.decode(event.body) for event in await self.store.read(LOG)]


@asynccontextmanager
async def serving(folder, **settings):
    store = MemoryStore()
    config = folder / "config"
    config.mkdir()
    (config / "plans.yaml").write_text(FILE)
    secret = pepper(folder / "pepper")
    texts = {}
    for role in Role:
        name = role.name.lower()
        _, texts[name] = await tokens.create(store, secret, name, role, now_ns=1)
    async with (
        running(
            Settings(folder / "pepper", Address(), **settings),
            store=store,
            resources=Resources(store, config),
        ) as address,
        aiohttp.ClientSession() as session,
    ):
        yield Api(address, session, store, folder, texts)


@pytest.fixture
async def api(tmp_path):
    async with serving(tmp_path) as served:
        yield served


async def test_a_resource_is_made_read_changed_and_removed(api):
    status, headers, answer = await api("PUT", "/v1/plans/gold", plan())
    assert (status, headers["Location"], answer) == (201, "/v1/plans/gold", plan())
    first = headers["ETag"]
    status, headers, answer = await api("GET", "/v1/plans/gold", role="viewer")
    assert (status, headers["ETag"], answer) == (200, first, plan())
    status, *_ = await api("GET", "/v1/plans/gold", **{"If-None-Match": f'"0", W/{first}'})
    assert status == 304
    status, headers, _ = await api(
        "PUT", "/v1/plans/gold", plan(title="Gold"), **{"If-Match": first}
    )
    assert (status, headers["ETag"] != first) == (200, True)
    status, *_ = await api("DELETE", "/v1/plans/gold", **{"If-Match": headers["ETag"]})
    assert status == 204
    status, _, answer = await api("GET", "/v1/plans/gold")
    assert (status, answer["detail"]) == (404, "Plan 'gold': not found, expected one that exists.")


async def test_a_change_needs_the_etag_of_what_it_changes(api):
    _, headers, _ = await api("PUT", "/v1/plans/gold", plan())
    first = headers["ETag"]
    changed = plan(title="Gold")
    assert (await api("PUT", "/v1/plans/gold", changed))[0] == 428
    assert (await api("PUT", "/v1/plans/gold", changed, **{"If-None-Match": "*"}))[0] == 412
    assert (await api("PUT", "/v1/plans/gold", changed, **{"If-Match": f"W/{first}"}))[0] == 412
    assert (await api("PUT", "/v1/plans/gold", changed, **{"If-Match": "gold"}))[0] == 400
    assert (await api("PUT", "/v1/plans/new", plan("new"), **{"If-Match": "*"}))[0] == 412
    assert (await api("PUT", "/v1/plans/gold", changed, **{"If-Match": "*"}))[0] == 200
    assert (await api("PUT", "/v1/plans/gold", changed, **{"If-Match": first}))[0] == 412
    assert (await api("DELETE", "/v1/plans/gold", **{"If-Match": first}))[0] == 412


async def test_of_two_who_change_the_same_one_is_told_so(api):
    _, headers, _ = await api("PUT", "/v1/plans/gold", plan())
    asked = [
        api("PUT", "/v1/plans/gold", plan(title=title), **{"If-Match": headers["ETag"]})
        for title in "abcd"
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in asked]
    assert sorted(task.result()[0] for task in tasks) == [200, 412, 412, 412]


async def test_what_a_file_declares_is_shown_and_changed_only_there(api):
    origin = f"{api.folder}/config/plans.yaml:1"
    status, headers, _ = await api("GET", "/v1/plans/filed")
    assert (status, headers["Wherry-Origin"]) == (200, origin)
    for method in ("PUT", "DELETE"):
        status, _, answer = await api(method, "/v1/plans/filed", plan("filed"))
        assert (status, answer["title"]) == (409, "Conflict")
        assert f"declared in {origin}" in answer["detail"]


async def test_a_wrong_resource_is_refused_with_each_place(api):
    wrong = product(routes=[{"path": "x", "to": {}}], plans=["none"], tittle="x")
    status, headers, answer = await api("PUT", "/v1/products/shop", wrong)
    assert (status, headers["Content-Type"]) == (422, "application/problem+json")
    assert {(e["resource"], e["pointer"]) for e in answer["errors"]} >= {
        ("ApiProduct/shop", "#/spec/tittle"),
    }
    assert answer["errors"][0]["expected"]
    status, _, answer = await api("PUT", "/v1/products/shop", product())
    assert (status, answer["detail"]) == (422, "no plan 'gold', expected one of filed.")
    assert answer["errors"][0]["pointer"] == "#/spec/plans/0"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/plans/gold", plan("other"), 422),
        ("/v1/products/gold", plan(), 422),
        ("/v1/plans/gold", b"{", 400),
        ("/v1/plans/gold", b"[]", 422),
        ("/v1/plans/gold", b'{"kind": 1, "kind": 2}', 400),
        ("/v1/plans/gold", b'{"a": NaN}', 400),
        ("/v1/plans/gold", b"\xff\xfe", 400),
        ("/v1/plans/gold", b"[" * 100_000, 400),
        ("/v1/plans/gold", b'{"kind":"Plan","metadata":{"name":"gold"},"x":"\\ud800"}', 422),
        ("/v1/plans/gold?x=1", plan(), 400),
        ("/v1/plans/..%2fgold", plan("../gold"), 422),
        ("/v1/nothing/gold", plan(), 404),
    ],
)
async def test_bad_input_is_refused_and_nothing_is_written(api, path, body, status):
    told, headers, answer = await api("PUT", path, body, **{"Content-Type": "application/json"})
    assert (told, answer["status"]) == (status, status)
    assert headers["Content-Type"] == "application/problem+json"
    assert await api.store.list("resource/") == {}
    assert await api.noted() == []


async def test_what_is_too_large_or_no_json_is_refused(api):
    big, form = b" " * 2_000_000, {"Content-Type": "application/json"}
    assert (await api("PUT", "/v1/plans/gold", big, **form))[0] == 413
    assert (await api("PUT", "/v1/plans/gold", b"x", **{"Content-Type": "text/plain"}))[0] == 415
    status, headers, _ = await api("POST", "/v1/plans/gold", plan())
    assert (status, sorted(headers["Allow"].split(","))) == (405, ["DELETE", "GET", "HEAD", "PUT"])


async def test_each_role_may_do_its_own_and_no_more(api):
    assert (await api("GET", "/v1/plans", role=None))[0] == 401
    assert (await api("GET", "/v1/plans", role="viewer"))[0] == 200
    assert (await api("PUT", "/v1/plans/gold", plan(), role="viewer"))[0] == 403
    assert (await api("PUT", "/v1/plans/gold", plan(), role="editor"))[0] == 201
    status, headers, _ = await api("GET", "/v1/tokens", role="editor")
    assert status == 403
    assert headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="owner"')
    assert (await api("GET", "/v1/audit", role="owner"))[0] == 200
    for path in ("/openapi.json", "/", "/healthz"):
        assert (await api("GET", path, role=None))[0] == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text, _: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text, _: text.replace("editor", "owner"),
        lambda text, _: text + "\N{SNOWMAN}",
        lambda _, digest: digest,
        lambda _, digest: f"wha_editor_{digest[:32]}_00000000",
        lambda *_: "",
    ],
)
async def test_a_token_that_is_not_quite_one_is_not_accepted(api, spoil):
    record = await api.store.get("admin/token/editor")
    digest = json.loads(record.body)["digest"]
    wrong = spoil(api.texts["editor"], digest).encode().decode("latin-1")
    status, headers, _ = await api("GET", "/v1/plans", role=wrong)
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Bearer ")


async def test_tokens_are_made_shown_once_and_revoked_at_once(api):
    asked = {"name": "ci", "role": "editor", "lasts": "24h"}
    status, headers, made = await api("POST", "/v1/tokens", asked, role="owner")
    assert (status, headers["Cache-Control"]) == (201, "no-store")
    assert (await api("POST", "/v1/tokens", asked, role="owner"))[0] == 409
    assert (await api("GET", "/v1/plans", role=made["token"]))[0] == 200
    _, _, listed = await api("GET", "/v1/tokens?limit=2", role="owner")
    assert [each["name"] for each in listed["items"]] == ["ci", "editor"]
    assert made["token"] not in json.dumps(listed)
    assert (await api("DELETE", "/v1/tokens/ci", role="owner"))[0] == 204
    assert (await api("GET", "/v1/plans", role=made["token"]))[0] == 401
    assert (await api("DELETE", "/v1/tokens/ci", role="owner"))[0] == 404
    assert (await api("DELETE", "/v1/tokens/owner", role="owner"))[0] == 409
    noted = [(e.actor, e.verb, e.subject) for e in await api.noted()]
    assert noted == [
        ("owner", "createToken", "token/ci"),
        ("owner", "revokeToken", "token/ci"),
    ]
    for record in (await api.store.list("")).values():
        assert made["token"].encode() not in record.body
    events = await api.store.read(LOG)
    assert not any(made["token"].split("_")[2].encode() in event.body for event in events)


async def test_a_token_ends_when_it_says(tmp_path):
    store, secret = MemoryStore(), b"x" * 32
    _, text = await tokens.create(store, secret, "t", Role.VIEWER, now_ns=0, expires_ns=10)
    assert await tokens.bearer(store, secret, text, now_ns=9)
    assert await tokens.bearer(store, secret, text, now_ns=10) is None
    assert await tokens.bearer(store, b"y" * 32, text, now_ns=9) is None


async def test_the_first_token_is_in_a_file_for_its_owner_only_and_stays(tmp_path):
    store, secret, path = MemoryStore(), b"x" * 32, tmp_path / "admin-token"
    clock = SystemClock()
    await first_token(store, secret, path, clock)
    text = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    token = await tokens.bearer(store, secret, text, now_ns=clock.unix_ns())
    assert (token.name, token.role) == (NAME, Role.OWNER)
    await first_token(store, secret, path, clock)
    assert path.read_text().strip() == text
    path.chmod(0o644)
    await first_token(store, secret, path, clock)
    assert path.read_text().strip() != text
    assert path.stat().st_mode & 0o777 == 0o600
    assert await tokens.bearer(store, secret, text, now_ns=clock.unix_ns()) is None


async def test_lists_come_in_pages(api):
    for n in range(5):
        await api("PUT", f"/v1/plans/p{n}", plan(f"p{n}"))
    names, path = [], "/v1/plans?limit=2"
    while path:
        _, headers, answer = await api("GET", path)
        names.append([item["name"] for item in answer["items"]])
        path = headers["Link"].partition(">")[0].lstrip("<") if "Link" in headers else None
    assert names == [["filed", "p0"], ["p1", "p2"], ["p3", "p4"]]
    for wrong in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=%D9%A3",
        "cursor=!",
        "limit=1&limit=2",
    ):
        assert (await api("GET", f"/v1/plans?{wrong}"))[0] == 400


async def test_apply_says_what_changes_and_a_dry_run_changes_nothing(api):
    body = {"documents": [product(), plan()]}
    status, _, dry = await api("POST", "/v1/apply?dryRun=true", body)
    assert (status, [c["verb"] for c in dry["changes"]]) == (200, ["create", "create"])
    assert (await api("GET", "/v1/plans/gold"))[0] == 404
    assert (await api("POST", "/v1/apply", body))[0] == 200
    body = {"documents": [plan(title="Gold")]}
    _, _, told = await api("POST", "/v1/apply", body)
    [change] = told["changes"]
    assert change["differences"] == [{"pointer": "/spec/title", "before": None, "after": "Gold"}]
    status, _, answer = await api("POST", "/v1/apply?prune=true", {"documents": [product()]})
    assert (status, answer["errors"][0]["resource"]) == (422, "ApiProduct/shop")
    _, _, exported = await api("GET", "/v1/export", role="viewer")
    assert [d["metadata"]["name"] for d in exported["documents"]] == ["gold", "shop"]
    _, _, everything = await api("GET", "/v1/export?all=true")
    assert len(everything["documents"]) == 3
    assert (await api("POST", "/v1/apply?prune=true", {"documents": []}))[0] == 200
    _, _, exported = await api("GET", "/v1/export")
    assert exported == {"documents": []}


@pytest.mark.parametrize(
    "body",
    [{}, {"documents": {}}, {"documents": [1]}, {"documents": [], "x": 1}, {"documents": [{}]}],
)
async def test_what_is_not_to_be_applied_is_refused(api, body):
    assert (await api("POST", "/v1/apply", body))[0] == 422


async def test_the_audit_log_tells_before_and_after_without_secrets(api):
    header = {"name": "Authorization", "value": "Bearer hidden-from-all"}
    traffic = {"transform": {"request": {"headers": {"set": [header]}}}}
    await api("POST", "/v1/apply", {"documents": [plan(), product(traffic=traffic)]})
    _, headers, seen = await api("GET", "/v1/products/shop")
    assert "hidden-from-all" in json.dumps(seen)
    _, _, seen = await api("GET", "/v1/products/shop", role="viewer")
    assert "hidden-from-all" not in json.dumps(seen)
    written = await api("PUT", "/v1/products/shop", seen, **{"If-Match": headers["ETag"]})
    assert (written[0], "'(hidden)'" in written[2]["detail"]) == (422, True)
    assert (await api("POST", "/v1/apply", {"documents": [seen]}))[0] == 422
    await api("PUT", "/v1/products/shop", product(), **{"If-Match": headers["ETag"]})
    _, _, log = await api("GET", "/v1/audit?limit=2", role="owner")
    _, _, rest = await api("GET", f"/v1/audit?after={log['next']}", role="owner")
    told = [(e["actor"], e["verb"], e["subject"]) for e in (*log["items"], *rest["items"])]
    assert told == [
        ("editor", "create", "Plan/gold"),
        ("editor", "create", "ApiProduct/shop"),
        ("editor", "update", "ApiProduct/shop"),
    ]
    assert rest["items"][0]["after"] == product()
    assert "hidden-from-all" not in json.dumps([log, rest])


async def test_a_page_of_somebody_elses_name_is_not_answered(api):
    status, _, answer = await api("GET", "/", role=None, Host="evil.example")
    assert (status, answer["title"]) == (403, "Forbidden")


async def test_only_so_many_requests_are_taken_at_once(tmp_path):
    async with serving(tmp_path, most_calls=1) as api:
        reader, writer = await asyncio.open_connection(api.address.host, api.address.port)
        head = (
            f"PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {api.texts['editor']}\r\nContent-Length: 10\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
        async with asyncio.timeout(10):
            while (answer := await api("GET", "/v1/plans"))[0] == 200:
                pass
        assert (answer[0], answer[1]["Retry-After"]) == (503, "1")
        writer.write(b"0123456789")
        assert b" 400 " in await reader.readline()
        writer.close()


async def test_a_request_that_takes_too_long_is_given_up(tmp_path):
    async with serving(tmp_path, seconds=0.2) as api:
        reader, writer = await asyncio.open_connection(api.address.host, api.address.port)
        head = (
            f"PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {api.texts['editor']}\r\nContent-Length: 10\r\n\r\n"
        )
        writer.write(head.encode())
        assert b" 503 " in await reader.readline()
        writer.close()


async def test_who_sends_no_head_is_hung_up_on(tmp_path):
    async with serving(tmp_path, idle_seconds=0.2) as api:
        reader, writer = await asyncio.open_connection(api.address.host, api.address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost:")
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "lines",
    [
        "PUT /v1/plans/gold HTTP/1.1\nHost: localhost\n\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nA: b\0c\r\n\r\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        "Content-Length: 2\r\n\r\nxx",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\nA: " + "b" * 10_000 + "\r\n\r\n",
        "PUT /v1/plans/gold HTTP/1.1\r\nHost: localhost\r\n" + "A: b\r\n" * 200 + "\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_others_are_served(api, lines):
    head = lines.replace("\r\n", f"\r\nAuthorization: Bearer {api.texts['editor']}\r\n", 1)
    reader, writer = await asyncio.open_connection(api.address.host, api.address.port)
    writer.write(head.encode("latin-1"))
    async with asyncio.timeout(10):
        told = await reader.read()
    writer.close()
    assert told.split()[1][:1] == b"4"
    assert b"application/problem+json" in told
    assert b"\0" not in told
    assert (await api("GET", "/v1/plans"))[0] == 200
    assert await api.store.list("resource/") == {}
