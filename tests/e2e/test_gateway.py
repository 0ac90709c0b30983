"""The gateway from outside: real sockets, a real upstream, a real Lambda API in HTTP."""

import asyncio
import hashlib
import json
import logging
import re
import socket
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from zlib import crc32

import aiohttp
import pytest
from support.gateway_site import OTHER, PROBLEM, problem, recorded, site, world

from gateway import keyring
from gateway.app import Settings, running
from gateway.recorder import UsageLost
from wherry.cli.usage import usage
from wherry.clock import SystemClock
from wherry.config.watch import Worlds
from wherry.errors import PortInUse, StartError
from wherry.serve import Address, bound, listening
from wherry.store.memory import MemoryStore
from wherry.store.sqlite import SqliteStore, StoreFailed

# Who may call


async def test_a_call_with_a_key_reaches_the_service_and_one_without_does_not(tmp_path):
    async with site(tmp_path) as gateway:
        async with await gateway.call("/shop/a/b?x=1") as answer:
            assert answer.status == 201
            assert (await answer.json())["path"] == "/a/b?x=1"
        async with gateway.client.get(gateway.address.url + "/shop/a") as answer:
            assert answer.status == 401
            assert "WWW-Authenticate" in answer.headers
            await problem(answer)
        assert len(gateway.upstream.requests) == 1


async def test_all_bad_keys_get_the_very_same_answer(tmp_path):
    async with site(tmp_path) as gateway:
        key, revoked = await gateway.new_key()
        await gateway.until(201, "/shop/a", key=revoked)
        await keyring.revoke(gateway.store, key.prefix, now_ns=SystemClock().unix_ns())
        await gateway.until(401, "/shop/a", key=revoked)
        _, expired = await gateway.new_key(expires_ns=1)
        stored = (await gateway.store.get(f"apikey/{key.prefix}")).body
        digest = json.loads(stored)["digest"]
        answers = set()
        body = f"wh_{gateway.key.split('_')[1]}_{'a' * 32}"
        guessed = f"{body}_{crc32(body.encode()):08x}"
        mistyped = gateway.key[:-1] + ("a" if gateway.key[-1] != "a" else "b")
        for bad in ["", "x", expired, revoked, guessed, mistyped, digest, stored.decode()]:
            async with await gateway.call("/shop/a", key=bad) as answer:
                headers = {k: v for k, v in answer.headers.items() if k != "Date"}
                answers.add((answer.status, await answer.text(), json.dumps(headers)))
        assert len(answers) == 1
        assert answers.pop()[0] == 401


async def test_a_key_in_the_query_works_and_is_never_passed_on(tmp_path):
    async with site(tmp_path) as gateway:
        url = f"{gateway.address.url}/shop/a?x=%20&apikey={gateway.key}&y="
        async with gateway.client.get(url) as answer:
            assert (await answer.json())["path"] == "/a?x=%20&y="
        async with await gateway.call("/shop/a?%61pikey=some&z") as answer:
            assert (await answer.json())["path"] == "/a?z"
        for request in gateway.upstream.requests:
            assert gateway.key not in str(request.raw_headers)


async def test_a_request_to_upgrade_is_answered_as_a_plain_one(tmp_path):
    async with site(tmp_path) as gateway:
        head = f"GET /items HTTP/1.1\r\nHost: x\r\nx-api-key: {gateway.key}\r\n"
        upgrade = head + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        answers = await gateway.raw((upgrade + head + "Connection: close\r\n\r\n").encode())
        assert answers.count(b"HTTP/1.1 201 ") == 2
        assert all("Upgrade" not in request.headers for request in gateway.upstream.requests)


async def test_two_keys_in_one_request_are_refused(tmp_path):
    async with site(tmp_path) as gateway:
        headers = [("x-api-key", gateway.key), ("x-api-key", gateway.key)]
        async with gateway.client.get(gateway.address.url + "/items", headers=headers) as answer:
            assert answer.status == 401


async def test_a_consumer_reaches_only_the_products_it_subscribed_to(tmp_path):
    async with site(tmp_path, world(more=OTHER)) as gateway:
        _, bob = await gateway.new_key("bob")
        _, stranger = await gateway.new_key("nobody")
        await gateway.until(201, "/other", key=bob)
        for path, key in (("/other", gateway.key), ("/items", bob), ("/items", stranger)):
            await gateway.until(403, path, key=key)
            async with await gateway.call(path, key=key) as answer:
                await problem(answer)


async def test_an_unknown_path_is_404_and_a_wrong_method_405_with_allow(tmp_path):
    async with site(tmp_path) as gateway:
        async with await gateway.call("/nowhere") as answer:
            assert answer.status == 404
            await problem(answer)
        async with await gateway.call("/items", method="DELETE") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
            await problem(answer)
        async with await gateway.call("/items", method="DELETE", key="none") as answer:
            assert answer.status == 401


MAKE_A_KEY = """
import asyncio, sys
from wherry.cli.keys import app
app(sys.argv[1:])
"""


async def test_a_key_made_and_revoked_by_another_process_counts_at_once(tmp_path):
    async def keys(*arguments):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAKE_A_KEY, *arguments, "--state", str(tmp_path), "--json"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await child.communicate()
        assert child.returncode == 0
        return json.loads(out)

    async with (
        SqliteStore.open(tmp_path / "wherry.db") as store,
        site(tmp_path, store=store) as gateway,
    ):
        made = await keys("create", "alice")
        assert await gateway.until(201, "/shop/a", key=made["key"]) < 1
        await keys("revoke", made["prefix"])
        assert await gateway.until(401, "/shop/a", key=made["key"]) < 1


async def test_the_first_key_record_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    store = MemoryStore()
    await store.put("apikey/aaaaaaaa", b"not json")
    async with site(tmp_path, store=store) as gateway:
        await gateway.until(201, "/shop/a", key=gateway.key)


# How much


async def test_over_its_rate_a_key_gets_429_with_everything_a_client_needs(tmp_path):
    async with site(tmp_path, world(requests=5)) as gateway:
        await gateway.until(201, "/items", key=gateway.key)
        answers = [await gateway.call("/items") for _ in range(5)]
        assert [answer.status for answer in answers] == [201] * 4 + [429]
        assert answers[0].headers["RateLimit-Policy"] == '"basic";q=5;w=60'
        assert answers[0].headers["RateLimit"] == '"basic";r=3;t=24'
        last = answers[-1]
        assert last.headers["RateLimit"] == '"basic";r=0;t=60'
        assert last.headers["Retry-After"] == "12"
        document = await problem(last)
        assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        assert document["violated-policies"] == ["basic"]
        _, fresh = await gateway.new_key()
        await gateway.until(201, "/items", key=fresh)


async def test_another_plan_counts_at_once_and_the_same_plan_keeps_its_bucket(tmp_path):
    async with site(tmp_path, world(requests=1)) as gateway:
        await gateway.until(201, "/items", key=gateway.key)
        await gateway.worlds.replace(world(requests=1, more=OTHER))
        await gateway.until(403, "/other", key=gateway.key)
        await gateway.until(429, "/items", key=gateway.key)
        await gateway.worlds.replace(world(requests=3))
        await gateway.until(201, "/items", key=gateway.key)


# What passes


async def test_claims_of_the_client_about_itself_do_not_pass(tmp_path):
    forged = {
        "X-Forwarded-For": "10.9.9.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil",
        "X-Forwarded-Client-Cert": "By=spiffe://evil",
        "Forwarded": "for=10.9.9.9",
        "X-Real-IP": "10.9.9.9",
        "X-Envoy-Retry-On": "5xx",
        "X-Wherry-Consumer": "bob",
        "X_Wherry_Consumer": "bob",
        "X_Forwarded_For": "10.9.9.9",
        "X_Kept": "1",
        "Connection": "x-gone",
        "X-Gone": "1",
        "TE": "trailers",
        "Proxy-Authorization": "Basic abc",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Authorization": "Bearer for-the-service",
    }
    async with site(tmp_path) as gateway:
        async with await gateway.call("/items", headers=forged) as answer:
            assert answer.headers["X-Kept"] == "yes"
            assert not {"X-Hop", "X-Envoy-Upstream-Service-Time"} & set(answer.headers)
            assert "wherry" in answer.headers["Via"]
        seen = gateway.upstream.requests[0].headers
    assert seen["X-Forwarded-For"] == "127.0.0.1"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Forwarded-Host"] == str(gateway.address)
    assert seen["Host"] == "shop"
    assert seen["X-Wherry-Consumer"] == "alice"
    assert seen["traceparent"] == forged["traceparent"]
    assert seen["Authorization"] == "Bearer for-the-service"
    assert seen["Via"] == "1.1 wherry"
    assert "X-Forwarded-Client-Cert" not in seen
    assert not {"X_Wherry_Consumer", "X_Forwarded_For"} & set(seen)
    assert seen["X_Kept"] == "1"
    gone = {"Forwarded", "X-Real-IP", "X-Envoy-Retry-On", "X-Gone", "TE", "Proxy-Authorization"}
    assert not {*gone, "x-api-key"} & set(seen)


async def test_a_server_sent_event_arrives_before_the_stream_ends(tmp_path):
    async with site(tmp_path) as gateway, await gateway.call("/shop/stream") as answer:
        assert await answer.content.readany() == b"data: 1\n\n"
        gateway.upstream.release.set()
        assert await answer.content.read() == b"data: 2\n\n"


async def test_an_upload_reaches_the_service_while_it_is_still_being_sent(tmp_path):
    made = world(product="maxBodyBytes: 67108864")
    block = bytes(range(256)) * 1024

    async with site(tmp_path, made) as gateway:

        async def upload():
            for n in range(64):
                yield block
                if n == 0:
                    await gateway.upstream.first_chunk.wait()

        async with await gateway.call("/shop/upload", method="POST", data=upload()) as answer:
            seen = await answer.json()
    assert seen == {"sha256": hashlib.sha256(block * 64).hexdigest(), "size": len(block) * 64}


@pytest.mark.parametrize("path", ["/shop/upload", "/call/x"])
async def test_a_body_over_the_limit_is_413_with_and_without_a_length(tmp_path, path):
    async def chunked():
        for _ in range(64):
            yield bytes(1024)

    async with site(tmp_path, world(product="maxBodyBytes: 1000")) as gateway:
        for data in (bytes(1001), chunked()):
            async with await gateway.call(path, method="POST", data=data) as answer:
                assert answer.status == 413
                await problem(answer)
        async with await gateway.call(path, method="POST", data=bytes(1000)) as answer:
            assert answer.status == 200
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {gateway.key}\r\n"
        head += "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
        assert (await gateway.raw(head.encode(), stay=True)).startswith(b"HTTP/1.1 413 ")
        head = head.replace("1001", "3")
        assert (await gateway.raw(head.encode(), stay=True)).startswith(b"HTTP/1.1 100 ")


async def test_a_head_request_and_an_empty_answer_have_no_body(tmp_path):
    async with site(tmp_path) as gateway:
        async with await gateway.call("/shop/a", method="HEAD") as answer:
            assert (answer.status, await answer.read()) == (201, b"")
        async with await gateway.call("/shop/a", method="POST") as answer:
            assert (await answer.json())["body"] == ""


async def test_a_service_that_is_late_absent_or_broken_is_a_problem(tmp_path):
    async with site(tmp_path, world(product="timeout: 100ms")) as gateway:
        for path, status in (("/shop/hang", 504), ("/shop/garbage", 502)):
            async with await gateway.call(path) as answer:
                assert answer.status == status
                assert "RateLimit" in answer.headers
                await problem(answer)
        (tmp_path / "mesh.sock").rename(tmp_path / "away")
        await gateway.until(503, "/items", key=gateway.key)
    async with site(tmp_path, mesh=False, functions=False) as gateway:
        for path in ("/items", "/call/x"):
            async with await gateway.call(path) as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "1"
                await problem(answer)


async def test_an_answer_that_breaks_off_is_not_passed_on_as_whole(tmp_path):
    async with site(tmp_path) as gateway:
        answer = await gateway.call("/shop/break")
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        answer.close()


async def test_a_client_that_goes_away_ends_the_call_and_is_still_counted(tmp_path):
    async with site(tmp_path) as gateway:
        call = asyncio.timeout(0.2)
        with pytest.raises(TimeoutError):
            async with call:
                await gateway.call("/shop/hang")
        async with asyncio.timeout(5):
            await gateway.upstream.gone.wait()
        assert [usage.status for usage in await gateway.usage(1)] == [499]


# Functions


async def test_a_function_gets_the_event_that_api_gateway_would_send(tmp_path):
    async with site(tmp_path) as gateway:
        path = "/call/a%20b?x=1&x=2&y=%20z&apikey=gone"
        headers = {"Cookie": "a=1; b=2", "X-Multi": "1", "Content-Type": "application/json"}
        async with await gateway.call(path, method="POST", data='{"é":1}', headers=headers) as got:
            assert got.status == 200
            assert got.headers["Content-Type"] == "application/json"
            assert await got.json() == {"hello": "world"}
            assert "RateLimit" in got.headers
        ((name, event),) = gateway.upstream.events
    assert name == "hello"
    assert event["version"] == "2.0"
    assert event["routeKey"] == "POST /call/{name}"
    assert event["rawPath"] == "/call/a%20b"
    assert event["rawQueryString"] == "x=1&x=2&y=%20z"
    assert event["queryStringParameters"] == {"x": "1,2", "y": " z"}
    assert event["pathParameters"] == {"name": "a b"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["headers"]["x-multi"] == "1"
    assert not {"cookie", "x-api-key", "transfer-encoding"} & set(event["headers"])
    assert (event["body"], event["isBase64Encoded"]) == ('{"é":1}', False)
    context = event["requestContext"]
    assert context["http"]["method"] == "POST"
    assert context["http"]["sourceIp"] == "127.0.0.1"
    assert context["authorizer"]["lambda"] == {"consumer": "alice", "plan": "basic"}
    assert context["domainName"] == str(gateway.address)


async def test_a_callers_trace_goes_on_to_the_function(tmp_path):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with site(tmp_path) as gateway:
        for headers in ({"traceparent": parent}, {}, {"X-Amzn-Trace-Id": "x" * 2000}):
            async with await gateway.call("/call/a", headers=headers) as got:
                assert got.status == 200
        given, *begun = gateway.upstream.traces
        assert given == (parent, None)
        for made, amazon in begun:
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", made)
            assert amazon is None


async def test_a_body_that_is_no_text_travels_as_base64_both_ways(tmp_path):
    async with site(tmp_path) as gateway:
        raw = bytes(range(256))
        gateway.upstream.result = {
            "statusCode": 418,
            "headers": {"Content-Type": "image/x", "X-N": 3, "Content-Length": "7"},
            "cookies": ["a=1", "b=2"],
            "body": b64encode(raw).decode(),
            "isBase64Encoded": True,
        }
        async with await gateway.call("/call/x", method="POST", data=raw) as answer:
            assert (answer.status, await answer.read()) == (418, raw)
            assert answer.headers["X-N"] == "3"
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        ((_, event),) = gateway.upstream.events
    assert event["isBase64Encoded"] is True
    assert b64decode(event["body"]) == raw


async def test_a_function_that_fails_is_busy_or_absent_is_a_problem_without_its_secrets(tmp_path):
    async with site(tmp_path) as gateway:
        upstream = gateway.upstream
        upstream.result = {"errorMessage": "secret", "stackTrace": ["secret"]}
        for status, headers, expected, retry in (
            (200, {"X-Amz-Function-Error": "Unhandled"}, 502, None),
            (429, {"Retry-After": "7"}, 503, "7"),
            (429, {}, 503, "1"),
            (404, {}, 503, "5"),
            (413, {}, 413, None),
            (500, {}, 502, None),
        ):
            upstream.lambda_status, upstream.lambda_headers = status, headers
            async with await gateway.call("/call/x") as answer:
                assert (answer.status, answer.headers.get("Retry-After")) == (expected, retry)
                assert "secret" not in json.dumps(await problem(answer))
        upstream.lambda_status, upstream.lambda_headers = 200, {}
        for result in (
            b"no json",
            {"statusCode": 99},
            {"statusCode": "2" * 5000},
            b"[" * 100_000,
            {"statusCode": 200, "headers": {"a": "b\n"}},
        ):
            upstream.result = result
            async with await gateway.call("/call/x") as answer:
                assert answer.status == 502
                await problem(answer)


# What is counted


async def test_every_call_that_was_let_through_is_recorded_once_and_no_other(tmp_path):
    async with site(tmp_path, world(requests=20)) as gateway:
        await gateway.until(201, "/items", key=gateway.key)

        async def one(path):
            async with await gateway.call(path) as answer:
                return answer.status

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(one("/items")) for _ in range(25)]
        for path in ("/nowhere", "/items%2F"):
            await one(path)
        statuses = [call.result() for call in calls]
        assert statuses.count(201) == 19
        store = gateway.store
    events = await recorded(store)
    assert len(events) == 20
    found = events[0]
    assert (found.consumer, found.app, found.product) == ("alice", "default", "store")
    assert (found.plan, found.status, found.amounts) == ("basic", 201, {"requests": 1})
    assert found.labels["route"] == "/items"
    assert found.billed


def test_a_state_that_is_no_folder_is_said_by_usage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="expected the folder of a Wherry"):
        usage(state=tmp_path / "file" / "state")


async def test_usage_is_in_the_store_while_the_gateway_still_runs(tmp_path):
    async with site(tmp_path) as gateway:
        await gateway.until(201, "/items", key=gateway.key)
        assert len(await gateway.usage(1)) == 1


class StallingStore(MemoryStore):
    """A store whose log takes nothing until it is told to."""

    def __init__(self):
        super().__init__()
        self.open = asyncio.Event()

    async def append(self, log, events):
        await self.open.wait()
        return await super().append(log, events)


async def test_a_store_that_does_not_keep_up_makes_calls_wait_and_loses_none(tmp_path):
    store = StallingStore()
    async with site(tmp_path, store=store, max_unwritten=3) as gateway:
        done = asyncio.Queue()

        async def one():
            async with await gateway.call("/items") as answer:
                await done.put(answer.status)

        await gateway.until(401, "/items", key="none")
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(one())
            for _ in range(3):
                assert await done.get() == 201
            await gateway.until(401, "/items", key="none")
            assert done.empty()
            store.open.set()
        assert [done.get_nowait() for _ in range(5)] == [201] * 5
    assert len(await recorded(store)) == 8


class FlakyStore(MemoryStore):
    """A store that writes the log and then says that it failed, until it is told to stop."""

    def __init__(self):
        super().__init__()
        self.failing = True

    async def append(self, log, events):
        count = await super().append(log, events)
        if self.failing:
            raise StoreFailed(Path("flaky"), "disk full")
        return count


async def test_a_write_that_fails_is_tried_again_and_counts_once(tmp_path):
    store = FlakyStore()
    async with site(tmp_path, store=store) as gateway:
        await gateway.until(201, "/items", key=gateway.key)
        await gateway.until(503, "/.wherry/readyz", key="")
        store.failing = False
        await gateway.until(200, "/.wherry/readyz", key="")
    assert len(await recorded(store)) == 1


# Bad input


@pytest.mark.parametrize(
    "path",
    [
        "/shop/../items",
        "/shop/%2e%2e/items",
        "/shop/./items",
        "//items",
        "/shop//items",
        "/shop/a%2Fb",
        "/shop/a%5Cb",
        "/shop/a\\b",
        "/shop/%00",
        "/shop/%ff",
        "/shop/%zz",
        "/shop/%",
        "*",
        "shop",
    ],
)
async def test_a_path_that_can_be_read_in_two_ways_is_400(tmp_path, path):
    async with site(tmp_path) as gateway:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {gateway.key}\r\n"
        answer = await gateway.raw((head + "Connection: close\r\n\r\n").encode())
        assert answer.split()[1] == b"400"
        assert PROBLEM.encode() in answer
        assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"complete nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /items HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /items HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET /items HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n", 400),
        (b"POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET /items HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /items HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 500 + b"\r\n", 431),
    ],
)
async def test_what_is_no_http_gets_a_problem_and_the_gateway_goes_on(
    tmp_path, request_bytes, status
):
    async with site(tmp_path) as gateway:
        answer = await gateway.raw(request_bytes)
        assert int(answer.split()[1]) == status
        assert PROBLEM.encode() in answer
        await gateway.until(201, "/items", key=gateway.key)


async def test_keys_never_reach_the_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with site(tmp_path) as gateway:
        await gateway.until(201, f"/items?apikey={gateway.key}", key=gateway.key)
        await gateway.raw(f"GET /x HTTP/1.1\r\nbad header {gateway.key}\r\n\r\n".encode())
        secret = gateway.key.split("_")[2]
    assert "call" in caplog.messages
    for record in caplog.records:
        assert secret not in str(record.__dict__)


# The gateway itself


async def test_health_is_answered_without_a_key(tmp_path):
    async with site(tmp_path) as gateway:
        for path in ("/.wherry/healthz", "/.wherry/readyz"):
            async with gateway.client.get(gateway.address.url + path) as answer:
                assert answer.status == 200


async def test_calls_over_the_most_at_once_get_503(tmp_path):
    async with site(tmp_path, max_calls=1) as gateway:
        await gateway.until(201, "/items", key=gateway.key)
        async with asyncio.TaskGroup() as group:
            held = group.create_task(gateway.call("/shop/wait"))
            await gateway.upstream.waiting.wait()
            async with await gateway.call("/items") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                await problem(answer)
            gateway.upstream.release.set()
        held.result().close()


async def test_calls_under_way_are_finished_and_recorded_when_the_gateway_stops(tmp_path):
    store = MemoryStore()
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as client:
        async with site(tmp_path, store=store) as gateway:
            await gateway.until(201, "/items", key=gateway.key)
            answer = await client.get(
                gateway.address.url + "/shop/stream", headers={"x-api-key": gateway.key}
            )
            rest = group.create_task(answer.content.read())
            gateway.upstream.release.set()
        assert b"data: 2" in await rest
    assert len(await recorded(store)) == 2


async def test_an_error_behind_the_gateway_leaves_it_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        async with site(tmp_path):
            raise ZeroDivisionError


async def test_a_port_that_is_taken_is_said(tmp_path):
    with listening("another", Address()) as taken:
        taken.listen()
        settings = Settings(tmp_path / "pepper", bound(taken))
        with pytest.raises(PortInUse, match=f"gateway: {bound(taken)} is taken"):
            async with running(settings, store=MemoryStore(), worlds=Worlds(world())):
                pass


async def test_a_world_with_a_bad_template_is_refused_and_the_last_one_serves(tmp_path, caplog):
    bad = world(routes='- {path: "/x/{rest+}/y", to: {service: shop}}')
    with pytest.raises(StartError, match=r"product 'store' path '/x/\{rest\+\}/y'"):
        async with site(tmp_path, bad):
            pass
    async with site(tmp_path) as gateway:
        await gateway.worlds.replace(bad)
        await gateway.until(201, "/items", key=gateway.key)
        await gateway.worlds.replace(world(more=OTHER))
        await gateway.until(403, "/other", key=gateway.key)
    assert "configuration refused" in caplog.text


# At the end, and against clients that hold on


@pytest.mark.parametrize("path", ["/shop/hang", "/shop/stream"])
async def test_a_call_that_outlasts_the_drain_is_cut_short_and_still_counted(tmp_path, path):
    store = MemoryStore()
    async with (
        aiohttp.ClientSession() as client,
        asyncio.TaskGroup() as group,
        site(tmp_path, store=store, drain_seconds=0.05) as gateway,
    ):
        url, headers = gateway.address.url + path, {"x-api-key": gateway.key}

        async def one():
            async with client.get(url, headers=headers) as answer:
                gateway.upstream.waiting.set()
                await answer.read()

        async def cut_short():
            with pytest.raises(aiohttp.ClientError):
                await one()

        group.create_task(cut_short())
        await gateway.upstream.waiting.wait()
    assert len(await recorded(store)) == 1


class LateStore(MemoryStore):
    """A store that refuses as many writes of the log as it is told to."""

    def __init__(self):
        super().__init__()
        self.refusals = 0

    async def append(self, log, events):
        if self.refusals:
            self.refusals -= 1
            raise StoreFailed(Path("late"), "database is locked")
        return await super().append(log, events)


async def test_a_write_that_fails_while_the_gateway_stops_is_tried_again(tmp_path):
    store = LateStore()
    async with site(tmp_path, store=store) as gateway:
        await gateway.until(201, "/items", key=gateway.key)
        await gateway.usage(1)
        async with await gateway.call("/items") as answer:
            store.refusals = 2
            assert answer.status == 201
    assert len(await recorded(store)) == 2


async def test_a_connection_that_sends_no_request_is_closed(tmp_path):
    async with site(tmp_path, idle_seconds=0.1) as gateway:
        assert await gateway.raw(b"") == b""
        assert await gateway.raw(b"GET /items HTTP/1.1\r\nHost: a\r\n") == b""


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_client_that_takes_nothing_of_its_answer_is_hung_up_on(tmp_path):
    async with site(tmp_path, idle_seconds=0.1) as gateway:
        gateway.upstream.result = {"statusCode": 200, "body": "x" * 6_000_000}
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((gateway.address.host, gateway.address.port))
            head = f"GET /call/x HTTP/1.1\r\nHost: a\r\nx-api-key: {gateway.key}\r\n\r\n"
            sock.sendall(head.encode())
            await gateway.usage(1)
            held = open_files()
            async with asyncio.timeout(5):
                while open_files() >= held:
                    await asyncio.sleep(0.01)


async def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(tmp_path):
    async with site(tmp_path, idle_seconds=0.1) as gateway:
        gateway.upstream.result = {"statusCode": 200, "body": "x" * 6_000_000}
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((gateway.address.host, gateway.address.port))
            sock.setblocking(False)
            head = f"GET /call/x HTTP/1.1\r\nHost: a\r\nx-api-key: {gateway.key}\r\n\r\n"
            await loop.sock_sendall(sock, head.encode())
            size = 0
            async with asyncio.timeout(30):
                while piece := await loop.sock_recv(sock, 65536):
                    size += len(piece)
        assert size > 6_000_000


async def test_usage_that_the_store_never_takes_is_said_when_the_gateway_stops(tmp_path):
    store = LateStore()

    async def one_call():
        async with site(tmp_path, store=store, drain_seconds=0.3) as gateway:
            store.refusals = 1 << 30
            async with await gateway.call("/items") as answer:
                assert answer.status == 201

    with pytest.raises(ExceptionGroup) as raised:
        await one_call()
    (lost,) = raised.value.exceptions
    assert isinstance(lost, UsageLost)
    assert lost.count == 1
