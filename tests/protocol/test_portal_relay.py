"""The relay of the portal against a real server that does odd things."""

import asyncio
import base64
import gzip

import aiohttp
import pytest
from aiohttp import web

from gateway.portal.relay import AT_ONCE, MAX_SHOWN, Call, Relay, Unusable
from wherry.clock import SystemClock


@pytest.fixture
async def server():
    """Run a server that answers by path; yield its origin, what it saw, and what lets it go on."""
    seen: list[web.Request] = []
    let_go = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        match request.path:
            case "/redirect":
                return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})
            case "/large":
                return web.Response(body=b"a" * (MAX_SHOWN * 2))
            case "/cut":
                return web.Response(body="ä".encode() * MAX_SHOWN)
            case "/binary":
                return web.Response(body=b"\xff\x00\xfe")
            case "/gzip":
                packed = gzip.compress(b"plain")
                return web.Response(body=packed, headers={"Content-Encoding": "gzip"})
            case "/wait":
                await let_go.wait()
        answer = web.Response(text=await request.text())
        answer.set_cookie("taste", "bitter")
        return answer

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen, let_go
    finally:
        let_go.set()
        await runner.cleanup()


@pytest.fixture
async def relay(server):
    async with Relay.open(server[0], SystemClock()) as opened:
        yield opened


def _call(path: str, *headers: tuple[str, str], body: str | None = None) -> Call:
    return Call("GET" if body is None else "POST", path, headers, body, None)


async def test_a_call_arrives_as_it_was_written(relay, server):
    seen = await relay.send(_call("/a%2Fb?q=%20x", ("X-One", "1"), body="hällo"), "192.0.2.1")
    assert (seen.status, seen.body, seen.whole, seen.is_text) == (200, "hällo", True, True)
    [request] = server[1]
    assert request.raw_path == "/a%2Fb?q=%20x"
    assert request.headers["X-Forwarded-For"] == "192.0.2.1"
    assert request.headers["X-One"] == "1"
    assert "User-Agent" not in request.headers


async def test_a_redirect_is_shown_and_not_followed(relay):
    seen = await relay.send(_call("/redirect"), "192.0.2.1")
    assert seen.status == 302
    assert ("Location", "http://127.0.0.1:1/") in seen.headers


async def test_cookies_of_one_call_are_not_sent_with_the_next(relay, server):
    for _ in range(2):
        await relay.send(_call("/"), "192.0.2.1")
    assert all("Cookie" not in request.headers for request in server[1])


@pytest.mark.parametrize("path", ["/large", "/cut"])
async def test_of_a_large_answer_the_beginning_is_shown(relay, path):
    seen = await relay.send(_call(path), "192.0.2.1")
    assert not seen.whole
    assert seen.is_text
    assert MAX_SHOWN // 2 <= len(seen.body) <= MAX_SHOWN


async def test_bytes_that_are_no_text_are_shown_as_base64(relay):
    seen = await relay.send(_call("/binary"), "192.0.2.1")
    assert not seen.is_text
    assert base64.b64decode(seen.body) == b"\xff\x00\xfe"


async def test_a_packed_answer_is_unpacked(relay):
    assert (await relay.send(_call("/gzip"), "192.0.2.1")).body == "plain"


async def test_too_many_calls_at_once_are_refused_and_places_come_back(relay, server):
    _, seen, let_go = server
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(relay.send(_call("/wait"), "192.0.2.1"))
        async with asyncio.timeout(10):
            while len(seen) < AT_ONCE:
                await asyncio.sleep(0.01)
        with pytest.raises(Unusable, match="try again"):
            await relay.send(_call("/"), "192.0.2.1")
        let_go.set()
    assert (await relay.send(_call("/"), "192.0.2.1")).status == 200


async def test_a_gateway_that_is_away_is_an_error_and_no_hang():
    async with Relay.open("http://127.0.0.1:1", SystemClock()) as relay:
        with pytest.raises(aiohttp.ClientConnectionError):
            await relay.send(_call("/"), "192.0.2.1")


async def test_whatever_the_path_it_stays_on_the_origin(relay, server):
    for path in ("/@evil.example.com", "/:80", "/%0d%0aHost:x", "/..", "/a/../../b"):
        await relay.send(_call(path), "192.0.2.1")
    assert {request.host for request in server[1]} == {server[0].removeprefix("http://")}
