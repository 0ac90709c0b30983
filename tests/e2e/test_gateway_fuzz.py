"""Any bytes at the gateway's door and from an upstream: valid answers or the end, no failure."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gateway_site import site, world
from support.http_answers import answers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CLAIMED = "X-Wherry-Consumer"
ROUTES = """
- {{path: "/shop/{{rest+}}", to: {{service: shop, rewrite: /}}}}
- {{path: /items, methods: [GET, POST], to: {{service: shop}}}}
- {{path: "/call/{{name}}", to: {{function: hello}}}}
- {{path: /odd, to: {{url: "http://127.0.0.1:{port}"}}}}
- path: /kept
  to: {{url: "http://127.0.0.1:{port}"}}
  traffic:
    cache: {{default: 1s}}
    meters: [{{meter: tokens, body: /tokens}}, {{meter: words, header: X-Words}}]
    transform:
      request: {{headers: {{set: [{{name: X-Q, value: "${{query.q}}${{header.X}}"}}]}}}}
      response:
        headers: {{add: [{{name: X-H, value: "${{header.X}}"}}]}}
        body: {{set: {{/a: 1}}}}
"""


class Place:
    """A gateway in a loop of its own, in front of an upstream that says whatever a test wants."""

    def __init__(self):
        self.gateway, self.loop = None, None
        self.answer = b""

    async def say(self, reader, writer):
        """Answer the first request of a connection with `answer`, and hang up."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def ask(self, sent, *, within=0.15):
        """Return all that is said until the gateway hangs up, or says nothing for a while."""
        address = self.gateway.address
        said = b""
        with socket.create_connection((address.host, address.port), timeout=5) as door:
            try:
                door.sendall(sent)
                door.settimeout(within)
                while piece := door.recv(1 << 16):
                    said += piece
            except (TimeoutError, ConnectionError):
                pass
        return said

    def lives(self):
        """Return whether the gateway still answers."""
        sent = b"GET /.wherry/readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        [(status, _, body)] = answers(self.ask(sent, within=5))
        return (status, body) == (200, b"ok\n")


@contextmanager
def placed(tmp_path):
    place, ready, stop = Place(), threading.Event(), []

    async def serve():
        stop.append(asyncio.Event())
        server = await asyncio.start_server(place.say, "127.0.0.1", 0)
        made = world(routes=ROUTES.format(port=server.sockets[0].getsockname()[1]), requests=10**9)
        async with server, site(tmp_path, made) as gateway:
            place.gateway, place.loop = gateway, asyncio.get_running_loop()
            ready.set()
            await stop[0].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield place
    finally:
        place.loop.call_soon_threadsafe(stop[0].set)
        thread.join(30)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with placed(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


PIECES = st.sampled_from(
    [
        *(b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"TRACE ", b"PRI ", b"get "),
        *(b"/shop/a", b"/items", b"/call/x", b"/odd", b"/kept?q=%0d%0a", b"/.wherry/oauth2/token"),
        *(b"*", b"x:80", b"http://x/items", b"/%2e", b"//", b"/%", b"?apikey=KEY", b"#", b"/;"),
        *(b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/0.9", b" HTTP/1.1 ", b""),
        *(b"\r\n", b"\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n", b"\r", b"\n\n", b" ", b"\t", b"\0"),
        *(b"Host: x\r\n", b"Host: x\r\n", b"Host: y:1\r\n", b"Host:\r\n", b"Host: a@b\r\n"),
        *(b"x-api-key: KEY\r\n", b"x-api-key: KEY\r\n", b"x-api-key: \xff\r\n"),
        *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length: 9\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
        *(b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Connection: x-api-key, host\r\n"),
        *(b"Upgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n",),
        *(
            b"Expect: 100-continue\r\n",
            b"Expect: x\r\n",
            b"TE: trailers\r\n",
            b"Range: bytes=0-\r\n",
        ),
        *(b"X_Wherry-Consumer: bob\r\n", b"X-Wherry-Consumer: bob\r\n", b"X: \xff\xfe\r\n"),
        *(b"Cookie: wherry_portal=KEY\r\n", b"Accept-Encoding: \xe2\x82\r\n", b"Origin: null\r\n"),
        *(b"If-None-Match: *\r\n", b"Cache-Control: only-if-cached\r\n", b"Cache-Control: =,\r\n"),
        *(
            b"Content-Type: application/json\r\n",
            b"traceparent: 00-\r\n",
            b"X-Forwarded-For: x\r\n",
        ),
        *(
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            b"-1\r\n",
            b"ffffffffffffffff\r\n",
            b"1;a=b\r\nx\r\n",
            b"abc",
        ),
        b"{" * 500,
        b"X: " + b"a" * 9000 + b"\r\n",
        b"X: 1\r\n" * 120,
    ]
)
LINES = st.tuples(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS"]),
    st.sampled_from([b"/shop/a", b"/items", b"/call/x", b"/kept", b"/odd", b"/kept?q=%0d%0aX:1"]),
).map(lambda both: b"%b %b HTTP/1.1\r\nHost: x\r\nx-api-key: KEY\r\n" % both)
REQUESTS = st.lists(st.one_of(PIECES, PIECES, LINES, st.binary(max_size=8)), max_size=14).map(
    b"".join
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=st.one_of(REQUESTS, st.tuples(LINES, REQUESTS).map(b"".join), st.binary(max_size=200)))
def test_any_bytes_at_the_door_get_valid_answers_or_the_end(place, sent):
    place.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    key = place.gateway.key.encode()
    said = place.ask(sent.replace(b"KEY", key))
    if b"HEAD" in sent:  # with other requests beside it, who can tell where its answer ends?
        assert not said or said.startswith(b"HTTP/1.1 ")
        assert b" 500 " not in said
    else:
        assert all(status != 500 for status, _, _ in answers(said)), said
    assert key not in said
    assert place.lives()
    requests, place.gateway.upstream.requests = place.gateway.upstream.requests, []
    for request in requests:
        assert request.headers.getall(CLAIMED) == ["alice"]
        assert key not in b"".join(name + value for name, value in request.raw_headers)
        assert key.decode() not in request.raw_path


PARTS = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 200\r\n",
            b"HTTP/2 200 OK\r\n",
        ),
        *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nX: 1\r\n\r\n"),
        *(b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 304 Not\r\n", b"HTTP/1.1 101 Switch\r\n"),
        *(b"HTTP/1.1 999 X\r\n", b"HTTP/1.1 503 \xff\x01\r\n", b"HTTP/1.1 206 Part\r\n"),
        *(b"Content-Length: 2\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
        *(b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
        *(b"Connection: content-length, transfer-encoding, content-type\r\n", b"X: \xff\r\n"),
        *(
            b"Set-Cookie: wherry_portal=1\r\n",
            b"Vary: *\r\n",
            b"Vary: x, \xff\r\n",
            b"Age: \xb2\r\n",
        ),
        *(b"Cache-Control: max-age=9999999999999999999\r\n", b"Cache-Control: s-maxage=\xb2,,\r\n"),
        *(b"ETag: \xff\r\n", b"Date: x\r\n", b"Expires: 0\r\n", b"Location: http://[\r\n"),
        *(b"X-Words: 5\r\n", b"X-Words: -5\r\n", b"X-Words: \xb2\r\n", b"Retry-After: \xb2\r\n"),
        *(b"Content-Type: application/json\r\n", b"Content-Encoding: gzip\r\n"),
        *(b"X: a\rb\r\n", b"X: a\0\r\n", b" folded\r\n", b"X : 1\r\n", b": 1\r\n", b"X: 1\n"),
        *(
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"ok",
            b"2\r\nok\r\n",
            b"0\r\n\r\n",
            b"0\r\nX: 1\r\n\r\n",
            b"zz\r\n",
        ),
        *(b'{"tokens": 1}', b'{"tokens": 1e999}', b"[" * 2000, b"\x1f\x8b\x08", b"\xff"),
        b"X: 1\r\n" * 1100,
        b"X: " + b"a" * 70_000 + b"\r\n",
    ]
)
GOOD = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 No\r\nContent-Type: application/json\r\n"]
)
SAID = st.tuples(GOOD, st.lists(st.one_of(PARTS, PARTS, st.binary(max_size=8)), max_size=10))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    said=st.one_of(SAID.map(lambda both: both[0] + b"".join(both[1])), st.binary(max_size=100)),
    method=st.sampled_from(["GET", "GET", "POST", "HEAD"]),
    path=st.sampled_from(["/odd", "/kept", "/kept?a"]),
)
def test_any_bytes_of_an_upstream_become_a_valid_answer_or_the_end(place, said, method, path):
    place.answer = said
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    got = place.ask(f"{head}{length}x-api-key: {place.gateway.key}\r\n\r\n".encode(), within=5)
    found = answers(got, head=method == "HEAD")
    assert len(found) <= 1, got
    assert all(status != 500 and 200 <= status <= 599 for status, _, _ in found), got
    assert b"wherry_portal" not in got.partition(b"\r\n\r\n")[0]
    assert place.lives()
