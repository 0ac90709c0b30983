"""WebSockets, drains and odd bytes at the gateway's door."""

import asyncio
import json
import ssl
from hashlib import sha256

import aiohttp
import pytest
import trustme
from support.gateway_site import PROBLEM, problem, recorded, site, world

from wherry.store.memory import MemoryStore

HANDSHAKE = (
    "GET /shop/socket HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_websocket_talks_through_the_gateway_and_is_counted_once(tmp_path):
    async with site(tmp_path) as gateway:
        url = gateway.address.url + "/shop/socket"
        headers = {"x-api-key": gateway.key}
        async with gateway.client.ws_connect(url, headers=headers, protocols=("chat",)) as socket:
            assert socket.protocol == "chat"
            for text in ("a", "b" * 100_000):
                await socket.send_str(text)
                assert await socket.receive_str() == f"you said {text}"
            assert await recorded(gateway.store) == []
            await socket.send_str("bye")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 4000
        (use,) = await gateway.usage(1)
        assert (use.status, use.amounts) == (101, {"requests": 1})
        assert "x-api-key" not in gateway.upstream.requests[0].headers


async def test_a_websockets_bytes_are_metered_both_ways(tmp_path):
    meters = "[{meter: heard, value: bytesIn}, {meter: said, value: bytesOut}]"
    made = world(product=f"traffic: {{meters: {meters}}}")
    async with site(tmp_path, made) as gateway:
        url = gateway.address.url + "/shop/socket"
        async with gateway.client.ws_connect(url, headers={"x-api-key": gateway.key}) as socket:
            await socket.send_str("b" * 50_000)
            assert await socket.receive_str() == f"you said {'b' * 50_000}"
        (use,) = await gateway.usage(1)
    assert 50_000 < use.amounts["heard"] < 51_000
    assert 50_000 < use.amounts["said"] < 51_000


async def test_a_websocket_that_the_client_leaves_ends_at_the_upstream_too(tmp_path):
    async with site(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
        writer.write(HANDSHAKE.format(key=gateway.key).encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.transport.abort()
        assert [use.status for use in await gateway.usage(1)] == [101]


async def test_a_websocket_without_a_key_or_to_what_speaks_none_is_a_plain_answer(tmp_path):
    async with site(tmp_path) as gateway:
        url = gateway.address.url
        for path, key, status in (
            ("/shop/socket", "none", 401),
            ("/items", gateway.key, 201),
            ("/call/x", gateway.key, 200),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await gateway.client.ws_connect(url + path, headers={"x-api-key": key})
            assert refused.value.status == status


async def test_readyz_says_that_the_end_is_near_before_calls_are_refused(tmp_path):
    store = MemoryStore()
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as client:
        async with site(tmp_path, store=store, settle_seconds=0.5) as gateway:
            url, key = gateway.address.url, gateway.key

            async def watched():
                while True:
                    async with client.get(f"{url}/.wherry/readyz") as answer:
                        if answer.status == 503:
                            break
                headers = {"x-api-key": key}
                async with client.get(f"{url}/items", headers=headers) as answer:
                    return answer.status

            seen = group.create_task(watched())
        assert await seen == 201


async def test_a_certificate_that_an_app_names_is_its_key(tmp_path):
    authority, others = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    one = authority.issue_cert("app.test")
    der = ssl.PEM_cert_to_DER_cert(one.cert_chain_pems[0].bytes().decode())
    made = world(
        product="authentication: [{type: mtls}]",
        more=f"""
---
apiVersion: wherry.dev/v1
kind: ApiGateway
metadata: {{name: default}}
spec:
  tls:
    certificate: {tmp_path}/certificate.pem
    key: {tmp_path}/key.pem
    clientAuthority: {tmp_path}/authority.pem
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: carol}}
spec:
  apps: [{{name: site, certificates: ["{sha256(der).hexdigest()}"]}}]
  subscriptions: [{{product: store, plan: basic}}]
""",
    )
    async with site(tmp_path, made) as gateway:
        url = f"https://{gateway.address}/items"
        for shown, status in ((one, 201), (authority.issue_cert("other.test"), 401), (None, 401)):
            trust = ssl.create_default_context()
            authority.configure_trust(trust)
            if shown is not None:
                shown.configure_cert(trust)
            async with gateway.client.get(url, ssl=trust) as answer:
                assert answer.status == status
        assert gateway.upstream.requests[0].headers["X-Forwarded-Proto"] == "https"
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        others.issue_cert("stranger.test").configure_cert(trust)
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            async with gateway.client.get(url, ssl=trust) as answer:
                await answer.read()


START = "POST /shop/a HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "X: a\nY: b\r\n\r\n",
        "X: a\x00b\r\n\r\n",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 0x3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\na\r\n0\r\n\r\n",
    ],
)
async def test_a_request_that_two_readers_could_cut_differently_reaches_no_upstream(tmp_path, rest):
    async with site(tmp_path) as gateway:
        smuggled = f"GET /items HTTP/1.1\r\nHost: x\r\nx-api-key: {gateway.key}\r\n\r\n"
        sent = START.format(key=gateway.key) + rest + smuggled
        answer = await gateway.raw(sent.encode("latin-1"))
        assert answer.split()[1] == b"400"
        assert PROBLEM.encode() in answer
        assert answer.count(b"HTTP/1.") == 1
        assert gateway.upstream.requests == []


async def test_connections_over_the_most_are_hung_up_on(tmp_path):
    async with site(tmp_path, max_connections=2) as gateway:
        held = [
            await asyncio.open_connection(gateway.address.host, gateway.address.port)
            for _ in range(2)
        ]
        try:
            assert await gateway.raw(b"GET /.wherry/healthz HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        except ConnectionResetError:
            pass
        finally:
            for _, writer in held:
                writer.close()


async def test_a_body_that_ends_early_is_400_and_nothing_more_is_read(tmp_path):
    async with site(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
        head = START.format(key=gateway.key).replace("/shop/a", "/shop/upload")
        writer.write((head + "Content-Length: 100\r\n\r\nhalf").encode())
        await gateway.upstream.first_chunk.wait()
        writer.write_eof()
        writer.close()
        assert [use.status for use in await gateway.usage(1)] == [499]
        del reader


async def test_the_gateways_own_paths_that_nobody_has_are_404(tmp_path):
    async with site(tmp_path) as gateway:
        for path in ("/.wherry/other", "/.wherry/healthz/x"):
            async with await gateway.call(path) as answer:
                assert answer.status == 404
                await problem(answer)
        async with await gateway.call(
            "/.wherry/oauth2/token", method="POST", data=bytes(70_000)
        ) as answer:
            assert answer.status == 413
            assert json.loads(await answer.read())["status"] == 413
