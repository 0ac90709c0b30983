"""Bad input at the gateway's door: each kind refused in its own words, and no secret in the log."""

import asyncio
import json
import logging
import re

import pytest
from support.gateway_site import PROBLEM, recorded, site, world

pytestmark = pytest.mark.e2e

CLOSE = "\r\nConnection: close\r\n\r\n"
REST = '- {path: "/shop/{rest+}", to: {service: shop, rewrite: /}}'
POST = "POST /shop/a HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n"
GET = "GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n\r\n"


def documents(said):
    """Return status, problem and whether the connection was ended, of each answer in bytes."""
    found = []
    for head, body in re.findall(rb"(HTTP/1\.[01] \d{3} .*?)\r\n\r\n(\{.*?\}|)", said, re.DOTALL):
        assert PROBLEM.encode() in head, said
        found.append((int(head.split()[1]), json.loads(body)))
    return found


async def refused(gateway, sent):
    """Send bytes; return status and detail of the one problem that answers them."""
    [(status, document)] = documents(await gateway.raw(sent))
    assert document["status"] == status
    return status, document["detail"]


BOTH = "says its body's length and that it comes in chunks"
TWICE = "the length of its body more than once"
NUMBER = "no number, or too large"
CODING = "a coding other than 'chunked' alone"
CHUNK = "not framed as HTTP has it"
CRLF = "does not end in CR LF"


@pytest.mark.parametrize(
    ("rest", "status", "why"),
    [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BOTH),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, BOTH),
        ("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, TWICE),
        ("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, TWICE),
        ("Content-Length: 3, 3\r\n\r\nabc", 400, NUMBER),
        ("Content-Length: +3\r\n\r\nabc", 400, NUMBER),
        ("Content-Length: -3\r\n\r\nabc", 400, NUMBER),
        ("Content-Length: 0x3\r\n\r\nabc", 400, NUMBER),
        ("Content-Length: 3 3\r\n\r\nabc", 400, NUMBER),
        ("Content-Length: 99999999999999999999999\r\n\r\nabc", 400, NUMBER),
        ("X: a\r\n b\r\n\r\n", 400, "folded over two lines"),
        ("X: a\r\n\tContent-Length: 5\r\n\r\n", 400, "folded over two lines"),
        ("X: a\nContent-Length: 5\r\n\r\nabcde", 400, ""),
        ("X: a\rContent-Length: 5\r\n\r\nabcde", 400, ""),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, CODING),
        ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, CODING),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, CODING),
        ("Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 501, CODING),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, CODING),
        ("Transfer-Encoding: \r\n\r\n", 501, CODING),
        ('Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400, CODING),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "a control character"),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "The name of a field"),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400, CHUNK),
        ("Transfer-Encoding: chunked\r\n\r\n" + "f" * 18 + "\r\nabc", 400, "larger than any"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", 400, BOTH),
        ("Bad Name: 1\r\n\r\n", 400, "The name of a field"),
        (": 1\r\n\r\n", 400, "The name of a field"),
        ("X: a\x00b\r\n\r\n", 400, "a control character"),
        ("Host: y\r\n\r\n", 400, "name one host"),
    ],
)
async def test_a_body_that_two_readers_could_cut_differently_is_refused_in_its_own_words(
    tmp_path, rest, status, why
):
    async with site(tmp_path) as gateway:
        after = GET.format(path="/items", key=gateway.key)
        sent = (POST.format(key=gateway.key) + rest + after).encode("latin-1")
        found, detail = await refused(gateway, sent)
        assert found == status
        assert why in detail
        assert gateway.key not in detail
        assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("GET /items\r\n", 505, "Only HTTP/1.1 and HTTP/1.0"),
        ("GET /items HTTP/2.0\r\n", 505, "Only HTTP/1.1 and HTTP/1.0"),
        ("GET /items HTTP/9.9\r\n", 400, "Only HTTP/1.1 and HTTP/1.0"),
        ("GET /items HTTP/1.1\n", 400, CRLF),
        ("GET /items HTTP/1.1\r", 400, CRLF),
        ("GET /it ems HTTP/1.1\r\n", 400, "a method, a target and a version"),
        ("GET /\xff HTTP/1.1\r\n", 400, "target"),
        ("GET /?\xff HTTP/1.1\r\n", 400, "target"),
        ("get /items HTTP/1.1\r\n", 400, "method"),
        ("FETCH /items HTTP/1.1\r\n", 400, "method"),
        ("A" * 300 + " /items HTTP/1.1\r\n", 400, "method"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2"),
        ("CONNECT x:80 HTTP/1.1\r\n", 501, "no tunnels"),
        ("CONNECT /items HTTP/1.1\r\n", 501, "no tunnels"),
        ("GET x:80 HTTP/1.1\r\n", 400, "target"),
        ("POST /items HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400, "HTTP/1.0 knows no"),
        (
            "POST /items HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
            400,
            "HTTP/1.0 knows no",
        ),
    ],
)
async def test_a_request_line_that_is_no_http_1_is_refused_and_what_follows_is_not_read(
    tmp_path, line, status, why
):
    async with site(tmp_path) as gateway:
        after = GET.format(path="/items", key=gateway.key) if "HTTP/1.1" in line else ""
        head = f"{line}Host: x\r\nx-api-key: {gateway.key}\r\n\r\n"
        found, detail = await refused(gateway, (head + after).encode("latin-1"))
        assert (found, why in detail) == (status, True)
        assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/shop/../items", "a dot segment"),
        ("/shop/%2e%2E/items", "a dot segment"),
        ("/shop/%252e%252e/items", "an escape of an escape"),
        ("/shop/a%252fb", "an escape of an escape"),
        ("/shop/a%2fb", "an escaped slash"),
        ("/shop/a%5cb", "a backslash"),
        ("/shop/a\\b", "a backslash"),
        ("/shop/%00", "a control character"),
        ("/shop/%0d%0aX:1", "a control character"),
        ("/shop/..;/items", "a semicolon"),
        ("/shop/a;x=1", "a semicolon"),
        ("/items%3bx", "a semicolon"),
        ("//items", "an empty segment"),
        ("/shop//a", "an empty segment"),
        ("/shop/%c0%ae%c0%ae/a", "no UTF-8"),
        ("/shop/%ed%a0%80", "no UTF-8"),
        ("/shop/%f5%80%80%80", "no UTF-8"),
        ("/shop/%zz", "half an escape"),
        ("/shop/a#b", "need an escape"),
    ],
)
async def test_a_path_with_a_trick_in_it_is_refused_in_its_own_words(tmp_path, path, why):
    async with site(tmp_path) as gateway:
        head = GET.format(path=path, key=gateway.key).replace("\r\n\r\n", CLOSE)
        found, detail = await refused(gateway, head.encode())
        assert (found, why in detail) == (400, True), detail
        assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    "host", ["a@b", "a/b", "a b", "é", "a:99999", "a:b", "[::1", "a,b", "a" * 300, "a\\b", "a#b"]
)
async def test_a_host_that_is_none_is_refused(tmp_path, host):
    async with site(tmp_path) as gateway:
        head = f"GET /items HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nx-api-key: k\r\n\r\n"
        status, _ = await refused(gateway, head.encode())
        assert status == 400


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        ("GET /shop/" + "a" * 8300 + " HTTP/1.1\r\nHost: x\r\n", 431, "A line of the head"),
        ("GET /shop/" + "a" * 8000 + " HTTP/1.1\r\nHost: x\r\n", 414, "The target"),
        ("GET /items?" + "a" * 8000 + " HTTP/1.1\r\nHost: x\r\n", 414, "The target"),
        ("GET /items HTTP/1.1\r\nHost: x\r\nX: " + "a" * 9000 + "\r\n", 431, "A line of the head"),
        ("GET /items HTTP/1.1\r\nHost: x\r\n" + "a" * 9000 + ": 1\r\n", 431, "A line of the head"),
        ("GET /items HTTP/1.1\r\nHost: x\r\n" + "X: 1\r\n" * 101, 431, "too many fields"),
        ("POST /items HTTP/1.1\r\nHost: x\r\nKContent-Length: 1048577\r\n", 413, "1048576 bytes"),
    ],
)
async def test_what_is_too_large_is_refused_with_the_bound(tmp_path, sent, status, why):
    async with site(tmp_path) as gateway:
        sent = sent.replace("\r\nK", f"\r\nx-api-key: {gateway.key}\r\n")
        found, detail = await refused(gateway, (sent + "Connection: close\r\n\r\n").encode())
        assert (found, why in detail) == (status, True), detail


async def test_chunks_that_add_up_to_more_than_a_body_may_have_are_refused(tmp_path):
    async with site(tmp_path, world(product="maxBodyBytes: 100")) as gateway:
        head = POST.format(key=gateway.key).replace("/shop/a", "/shop/upload")
        chunks = "Transfer-Encoding: chunked\r\n\r\n" + "a\r\n0123456789\r\n" * 20 + "0\r\n\r\n"
        status, detail = await refused(gateway, (head + chunks).encode())
        assert (status, "100 bytes" in detail) == (413, True)


async def test_extensions_and_trailers_of_chunks_go_no_further(tmp_path):
    async with site(tmp_path) as gateway:
        rest = (
            "Connection: close\r\nTrailer: X-Wherry-Consumer\r\nTransfer-Encoding: chunked\r\n\r\n"
            '3;name="value"\r\nabc\r\n0\r\nX-Wherry-Consumer: bob\r\nX-Late: 1\r\n\r\n'
        )
        said = await gateway.raw((POST.format(key=gateway.key) + rest).encode())
        assert said.startswith(b"HTTP/1.1 201 ")
        assert b'"body": "abc"' in said
        [request] = gateway.upstream.requests
        assert request.headers.getall("X-Wherry-Consumer") == ["alice"]
        assert "X-Late" not in request.headers
        assert "Trailer" not in request.headers


# Slow clients


async def _said(reader):
    """Return all that is said until the connection ends, however it does."""
    said = b""
    try:
        while piece := await reader.read(1 << 16):
            said += piece
    except OSError:
        pass
    return said


@pytest.mark.parametrize("first", [b"", b"GET /.wherry/healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(tmp_path, first):
    async with site(tmp_path, idle_seconds=0.5) as gateway:
        reader, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
        writer.write(first + b"GET /items HTTP/1.1\r\nHost: x\r\nX: ")
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            ended = group.create_task(_said(reader))
            while not ended.done():
                writer.write(b"a")
                await asyncio.wait([ended], timeout=0.02)
        writer.close()
        assert ended.result().count(b"HTTP/1.1 ") == bool(first)


async def test_a_body_that_does_not_come_is_the_clients_fault_and_opens_no_breaker(tmp_path):
    product = "timeout: 300ms\n  traffic: {breaker: {failures: 1, openFor: 60s}}"
    async with site(tmp_path, world(product=product)) as gateway:
        head = POST.format(key=gateway.key).replace("/shop/a", "/shop/upload")
        status, detail = await refused(gateway, (head + "Content-Length: 9\r\n\r\nhalf").encode())
        assert status == 408
        assert "body did not come" in detail
        await gateway.until(201, "/items", key=gateway.key)


# What a client says of itself


CLAIMS = """\
x_wherry_consumer: bob\r
X-WHERRY-Consumer: bob\r
X_Wherry-Subject: bob\r
X-Forwarded-For: 6.6.6.6\r
X_Forwarded_Host: evil\r
Forwarded: for=6.6.6.6\r
X-Real-IP: 6.6.6.6\r
X-HTTP-Method-Override: DELETE\r
X_HTTP_Method_Override: DELETE\r
X-HTTP-Method: DELETE\r
X-Method-Override: DELETE\r
X-Original-URL: /admin\r
X-Rewrite-Url: /admin\r
X-Envoy-Original-Path: /admin\r
X-API-Key: KEY\r
Transfer_Encoding: chunked\r
Content_Length: 0\r
Proxy-Authorization: Basic YQ==\r
Keep-Alive: 9\r
TE: trailers\r
Upgrade: h2c\r
Cookie: a=1; wherry_portal=s3cret; b=2\r
Cookie: wherry_visit=s3cret\r
Connection: close, x-wherry-consumer, x-api-key, x-forwarded-for, via, X-Kept-Not\r
X-Kept-Not: 1\r
X-Kept: 1\r
\r
"""
KEPT = {"Host", "Cookie", "X-Kept", "traceparent"}
SAID = {"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Wherry-Consumer", "Via"}


async def test_claims_in_every_spelling_go_no_further_and_cookies_of_the_portal_neither(tmp_path):
    async with site(tmp_path) as gateway:
        head = "GET /items HTTP/1.1\r\nHost: X.Test:81\r\n" + CLAIMS.replace("KEY", gateway.key)
        assert (await gateway.raw(head.encode())).startswith(b"HTTP/1.1 201 ")
        [request] = gateway.upstream.requests
        seen = request.headers
        assert set(seen) == KEPT | SAID
        assert all(len(seen.getall(name)) == 1 for name in seen)
        assert seen["X-Wherry-Consumer"] == "alice"
        assert seen["X-Forwarded-For"] == "127.0.0.1"
        assert seen["X-Forwarded-Host"] == "x.test:81"
        assert seen["Cookie"] == "a=1; b=2"
        assert "s3cret" not in str(request.raw_headers)


async def test_the_host_in_the_target_is_the_one_that_counts(tmp_path):
    async with site(tmp_path) as gateway:
        head = "GET http://Real.test:81/items HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n"
        assert (await gateway.raw(f"{head}x-api-key: {gateway.key}\r\n\r\n".encode())).split()[
            1
        ] == b"201"
        [request] = gateway.upstream.requests
        assert request.headers["X-Forwarded-Host"] == "real.test:81"
        assert "evil" not in str(request.raw_headers)


@pytest.mark.parametrize(("trusted", "seen"), [("[]", "127.0.0.1"), ("[127.0.0.1]", "9.9.9.9")])
async def test_an_address_is_believed_from_trusted_proxies_only(tmp_path, trusted, seen):
    more = (
        "---\napiVersion: wherry.dev/v1\nkind: ApiGateway\nmetadata: {name: default}\n"
        f"spec: {{trustedProxies: {trusted}}}\n"
    )
    async with site(tmp_path, world(more=more)) as gateway:
        given = [("X-Forwarded-For", "8.8.8.8, 9.9.9.9"), ("x-api-key", gateway.key)]
        async with gateway.client.get(gateway.address.url + "/items", headers=given) as answer:
            assert answer.status == 201
        assert gateway.upstream.requests[0].headers.getall("X-Forwarded-For") == [seen]


async def test_a_key_given_twice_counts_not_and_of_two_places_the_header_decides(tmp_path):
    async with site(tmp_path) as gateway:
        key, none = gateway.key, "wh_none"
        for path, headers, status in (
            (f"/items?apikey={key}&apikey={key}", [], 401),
            (f"/items?apikey={key}&%61pikey={none}", [], 401),
            ("/items", [("x-api-key", key), ("x-api-key", key)], 401),
            ("/items", [("x-api-key", f"{key}, {key}")], 401),
            (f"/items?apikey={none}", [("x-api-key", key)], 201),
            (f"/items?apikey={key}", [("x-api-key", none)], 401),
            ("/items", [("x_api_key", key)], 401),
        ):
            async with gateway.client.get(gateway.address.url + path, headers=headers) as answer:
                assert answer.status == status, (path, headers)
        assert [request.raw_path for request in gateway.upstream.requests] == ["/items"]


async def test_an_answer_cannot_set_or_end_the_portals_session(tmp_path):
    async with site(tmp_path) as gateway:
        said = [("Set-Cookie", "wherry_portal=mine; Path=/"), ("Set-Cookie", "a=wherry_portal")]
        said += [("Set-Cookie", " wherry_visit=; Max-Age=0"), ("X-Api", "1")]
        gateway.upstream.answers["/say/a"] = [(200, said, b"")]
        async with await gateway.call("/shop/say/a") as answer:
            assert answer.headers.getall("Set-Cookie") == ["a=wherry_portal"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nSet-Cookie: b=1"},
        {"X": "a\nb"},
        {"X\r\nY": "a"},
        {"X": "a\0b"},
        {"X Y": "a"},
        {"": "a"},
        {"X": "\ud800"},
    ],
)
async def test_a_function_cannot_split_its_answer(tmp_path, headers):
    async with site(tmp_path) as gateway:
        gateway.upstream.result = {"statusCode": 200, "headers": headers, "body": "ok"}
        async with await gateway.call("/call/x") as answer:
            assert answer.status == 502
            assert "b=1" not in str(answer.headers)


async def test_a_function_frames_no_answer_and_sets_no_cookie_of_the_portal(tmp_path):
    async with site(tmp_path) as gateway:
        framing = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Connection": "upgrade"}
        result = {"statusCode": 204, "headers": framing, "body": "HTTP/1.1 200 OK\r\n\r\n"}
        gateway.upstream.result = {**result, "cookies": ["wherry_portal=mine", "a=1"]}
        head = GET.format(path="/call/x", key=gateway.key)
        said = await gateway.raw((head + head.replace("\r\n\r\n", CLOSE)).encode())
        assert said.count(b"HTTP/1.1 204 ") == said.count(b"HTTP/1.1 ") == 2
        assert said.count(b"Set-Cookie: a=1") == said.count(b"Set-Cookie") == 2


async def test_what_a_transform_puts_into_fields_and_queries_stays_in_its_place(tmp_path):
    product = """traffic:
    transform:
      request:
        headers: {set: [{name: X-Q, value: "${query.q}${path.rest}"}]}
        query: {add: {z: "${query.q}"}}
      response: {headers: {set: [{name: X-R, value: "${query.q}"}]}}
"""
    async with site(tmp_path, world(routes=REST, product=product.strip())) as gateway:
        async with await gateway.call("/shop/%C3%A9%20b?q=a%0d%0aX-Evil:1%00%26y=1") as answer:
            assert answer.status == 201
            assert answer.headers["X-R"] == "a%0D%0AX-Evil:1%00&y=1"
            assert "X-Evil" not in answer.headers
        [request] = gateway.upstream.requests
        assert request.headers["X-Q"] == "a%0D%0AX-Evil:1%00&y=1%C3%A9 b"
        assert "X-Evil" not in request.headers
        assert dict(request.query)["z"] == "a\r\nX-Evil:1\0&y=1"
        assert "y" not in request.query


async def test_a_handshake_that_is_not_taken_leaves_what_follows_a_request_of_its_own(tmp_path):
    async with site(tmp_path) as gateway:
        ask = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n"
        for path, version in (("/items", "13"), ("/shop/socket", "777")):
            head = GET.format(path=path, key=gateway.key)[:-2] + ask
            head += f"Sec-WebSocket-Version: {version}\r\n\r\n"
            after = GET.format(path="/items", key="none").replace("\r\n\r\n", CLOSE)
            said = await gateway.raw((head + after).encode())
            assert b"HTTP/1.1 101 " not in said
            assert said.rpartition(b"HTTP/1.1 ")[2].startswith(b"401 ")


# Bytes that are no text


async def test_bytes_that_are_no_utf_8_in_fields_hurt_no_stage(tmp_path):
    product = """traffic:
    transform:
      request:
        headers: {set: [{name: X-Said, value: "${header.X-Odd}"}]}
        query: {set: {said: "${header.X-Odd}"}}
        body: {set: {/said: "${header.X-Odd}"}}
"""
    async with site(tmp_path, world(product=product.strip())) as gateway:
        head = POST.format(key=gateway.key) + "Content-Type: application/json\r\nX-Odd: a"
        end = "\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        said = await gateway.raw(head.encode() + b"\xff\xfe" + end.encode())
        assert said.split()[1] == b"201"
        [request] = gateway.upstream.requests
        assert request.headers["X-Said"] == "a%EF%BF%BD%EF%BF%BD"
        assert request.query["said"] == "a��"
        call = head.replace("/shop/a", "/call/x").encode() + b"\xff" + end.encode()
        assert (await gateway.raw(call)).split()[1] == b"200"
        assert gateway.upstream.events[0][1]["headers"]["x-odd"] == "a�"
        key = POST.format(key="\xff") + end[2:]
        assert (await gateway.raw(key.encode("latin-1"))).split()[1] == b"401"


# The log


async def test_nothing_that_is_refused_brings_a_secret_into_the_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    more = (
        "---\napiVersion: wherry.dev/v1\nkind: ApiGateway\nmetadata: {name: default}\n"
        "spec: {accessLog: true}\n"
    )
    async with site(tmp_path, world(more=more)) as gateway:
        key = gateway.key
        for sent in (
            f"GET http://user:{key}@x/items HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            f"GET /items?apikey={key}&apikey={key} HTTP/1.0\r\nHost: x\r\n\r\n",
            f"GET /items HTTP/1.1\r\nHost: x\r\nbad {key}: 1\r\n\r\n",
            f"GET /items HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\n\r\n\r\n",
            f"{key} /items HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /items HTTP/1.1\r\nHost: {key}@x\r\nConnection: close\r\n\r\n",
            f"GET /items HTTP/1.1\r\nHost: x\r\nA: {key}{'a' * 9000}\r\n\r\n",
            POST.format(key=key) + f"Transfer-Encoding: chunked\r\n\r\n{key}\r\n",
            POST.format(key=key) + f"Connection: close\r\nContent-Length: 99999999\r\n\r\n{key}",
        ):
            said = await gateway.raw(sent.encode())
            assert 400 <= int(said.split()[1]) < 500
            assert key.encode() not in said
    assert caplog.records
    secret = key.split("_")[2]
    assert not [each for each in caplog.records if secret in str(each.__dict__)]


async def test_no_refused_request_is_recorded_as_a_call(tmp_path):
    async with site(tmp_path) as gateway:
        await gateway.raw((POST.format(key=gateway.key) + "Content-Length: x\r\n\r\n").encode())
        await gateway.raw(
            GET.format(path="/a;b", key=gateway.key).replace("\r\n\r\n", CLOSE).encode()
        )
        async with await gateway.call("/items"):
            pass
        await gateway.usage(1)
        assert len(await recorded(gateway.store)) == 1
