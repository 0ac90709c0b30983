"""Products that real sidecars enforce: the same keys, plans and usage without the extra hop."""

import asyncio
import sys
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from support.edge import route, services, to
from support.guarded import consumer, guarded, plans, product, raw
from support.members import until

from gateway.metering.rollup import used
from policy import wire
from policy.app import Settings, running
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from xds.registrations import live

pytestmark = pytest.mark.e2e

SOCKET = """
import os
from aiohttp import web

async def answer(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"you said {message.data}")
    return socket

app = web.Application()
app.router.add_get("/talk", answer)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
"""
HOSTS = """\
---
apiVersion: wherry.dev/v1
kind: ApiGateway
metadata: {name: default}
spec: {hosts: [shop.test]}
"""
STOCK = product(
    "stock",
    "deprecated: '2030-01-01'",
    "routes:",
    "- {path: /stock, methods: [GET], operation: readStock, cost: 2, to: {service: stock}}",
    "- {path: '/stock/{item}', methods: [GET, PUT], operation: writeStock, scopes: [write],",
    "   to: {service: stock}}",
    "- {path: /talk, operation: talk, to: {service: stock}}",
    "- {path: /elsewhere, operation: other, to: {service: other}}",
    "scopes: {write: Change it}",
)
OPEN = services("stock", "other", "web") + route("all", to("stock")) + plans() + HOSTS
WORLD = OPEN + STOCK + consumer("ann", stock="wide") + consumer("bob", stock="narrow")
WORLD += consumer("eve")


@pytest.fixture
async def house(tmp_path):
    async with guarded(tmp_path, WORLD) as made:
        await made.mesh.program("stock")
        await made.mesh.joined(1)
        yield made


async def test_a_key_opens_the_service_and_nothing_else_does(house):
    refused = await house.call("/stock")
    assert (refused.status, refused.headers["content-type"]) == (401, "application/problem+json")
    assert refused.said["title"] == "Unauthorized"
    assert "www-authenticate" in refused.headers
    made, key = await house.made()
    await house.until(200, "/stock", key)
    wrong = await house.call("/stock", key[:-3] + "abc")
    assert (wrong.status, wrong.said) == (401, refused.said)
    stranger = await house.key("eve")
    await house.until(403, "/stock", stranger)
    narrow = await house.key(scopes=[])
    await house.until(200, "/stock", narrow)
    missing = await house.call("/stock/7", narrow)
    assert (missing.status, missing.said["detail"]) == (
        403,
        "The credential was not granted: write.",
    )
    assert (await house.call("/stock/7", key)).status == 200
    assert (await house.call("/stock", key, "DELETE")).status == 405
    assert (await house.call("/elsewhere", key)).status == 404, "that is another program's"
    await house.revoke(made)
    assert await house.until(401, "/stock", key) < 1.0
    assert (await house.call("/stock", key)).said == refused.said


async def test_a_program_is_told_who_calls_and_sees_no_secret(house):
    key = await house.key()
    await house.until(200, "/stock", key)
    by_header = await house.call("/stock", key)
    assert by_header.said["headers"]["x-wherry-consumer"] == "ann"
    assert "x-api-key" not in by_header.said["headers"]
    assert by_header.headers["ratelimit-policy"] == '"wide";q=100000;w=3600'
    assert by_header.headers["ratelimit"].startswith('"wide";r=')
    assert by_header.headers["deprecation"].startswith("@")
    twice = f"/stock?apikey={key}&%61pikey={key}"
    assert (await house.call(twice)).status == 401
    query = f"/stock?b&a=%2F&%61pikey={key}&a=%20+&c="
    assert (await house.call(query)).said["path"] == "/stock?b&a=%2F&a=%20+&c="
    assert (await house.call(f"/stock?apikey={key}")).said["path"] == "/stock"
    claims = {
        "x-wherry-consumer": "root",
        "X_Wherry_Consumer": "root",
        "x-wherry_consumer": "root",
        "x-wherry-subject": "root",
        "x_api_key": key,
    }
    told = (await house.call("/stock", key, **claims)).said["headers"]
    assert told["x-wherry-consumer"] == "ann"
    assert not [value for value in told.values() if value == "root" or key in value]


async def _inbound(house):
    """Return where the sidecar takes requests."""
    async with aclosing(live(house.store, SystemClock())) as views:
        (workload,) = await anext(views)
    return f"http://{workload.address}:{workload.port}"


SPELLINGS = {
    "/stock": True,
    "//stock": True,
    "/./stock": True,
    "/x/../stock": True,
    "/x/%2e%2e/stock": True,
    "/%73tock": True,
    "/%73%74%6F%63%6b": True,
    "http://stock/stock": True,
    "http://other/stock": True,
    "HTTP://stock:80//stock": True,
    "\\stock": True,
    "/stock/": False,
    "/stock/.": False,
    "/stock;a=1": False,
    "/stock%3Ba": False,
    "/STOCK": False,
    "/%53tock": False,
    "/%2fstock": False,
    "/%2Fstock": False,
    "/x%2f..%2fstock": False,
    "/x%5c..%5cstock": False,
    "/%252fstock": False,
    "/stock%00": False,
    "/stock%ff": False,
    "/stock%": False,
    "/stock%20": False,
    "/../stock": True,
    "/stock#a": False,
    "stock": False,
    "*": False,
    "": False,
    "/": False,
    "/.wherry/": False,
}
"""Targets, and whether a key opens them."""


async def test_no_spelling_of_a_path_passes_without_a_key(house):
    key = await house.key()
    await house.until(200, "/stock", key)
    head = "GET {} HTTP/1.1\r\nhost: stock\r\nconnection: close\r\n{}\r\n"
    for at in (house.at, await _inbound(house)):
        opened = {}
        for target, opens in SPELLINGS.items():
            async with raw(at, head.format(target, "").encode()) as (first, _):
                assert first[9:12] in (b"", b"400", b"401", b"404"), (at, target, first)
            async with raw(at, head.format(target, f"x-api-key: {key}\r\n").encode()) as found:
                opened[target] = found[0][9:12] == b"200"
                assert opens or not opened[target], (at, target, found)
        assert opened["/stock"]
        assert opened["http://stock/stock"]
        assert opened["/%73tock"]


async def test_two_keys_or_a_key_in_odd_bytes_open_nothing(house):
    key = (await house.key()).encode()
    await house.until(200, "/stock", key.decode())
    at = await _inbound(house)
    for odd in (
        b"x-api-key: %b\r\nx-api-key: %b" % (key, key),
        b"x-api-key: %b, %b" % (key, key),
        b"x-api-key: \xff%b" % key,
        b"x-api-key:",
        b"x_api_key: %b" % key,
        b"x-api-key : %b" % key,
    ):
        async with raw(at, b"GET /stock HTTP/1.1\r\nhost: s\r\n%b\r\n\r\n" % odd) as (first, _):
            assert first[9:12] in (b"400", b"401"), (odd, first)


async def test_a_tunnel_is_not_opened(house):
    key = await house.key()
    await house.until(200, "/stock", key)
    for at in (house.at, await _inbound(house)):
        for target in ("stock:80", "/stock", "127.0.0.1:80"):
            head = f"CONNECT {target} HTTP/1.1\r\nhost: stock\r\nx-api-key: {key}\r\n\r\n"
            async with raw(at, head.encode()) as (first, _):
                assert first[9:10] == b"4", (at, target, first)


async def test_a_websocket_needs_a_key_too_and_is_counted_when_it_ends(tmp_path):
    async with guarded(tmp_path, WORLD) as house:
        program = tmp_path / "talk.py"
        program.write_text(SOCKET)
        words = ["--service", "stock", "--port", "0", "--", sys.executable, str(program)]
        await house.mesh.sidecar(*words)
        await house.mesh.joined(1)
        key = await house.key()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await house.client.ws_connect(f"{house.at}/talk")
        assert refused.value.status == 401
        await house.until(404, "/stock", key)
        async with house.client.ws_connect(f"{house.at}/talk?apikey={key}") as socket:
            await socket.send_str("hi")
            assert await socket.receive_str() == "you said hi"
            assert not [each for each in await house.uses(1) if each.operation == "talk"]

        async def counted() -> bool:
            return "talk" in {each.operation for each in await house.uses(1)}

        await until(counted)
        (talk,) = [each for each in await house.uses(1) if each.operation == "talk"]
        assert (talk.status, talk.billed) == (101, True)


async def test_sidecars_of_one_service_share_the_plans_counts(tmp_path):
    async with guarded(tmp_path, WORLD) as house:
        for _ in range(2):
            await house.mesh.program("stock")
        await house.mesh.joined(2)
        wide, narrow = await house.key(), await house.key("bob")
        await house.until(200, "/stock", wide)
        await house.until(403, "/stock/7", await house.key("bob", scopes=[]))
        got = [await house.call("/talk", narrow) for _ in range(8)]
        assert Counter(each.status for each in got) == {200: 3, 429: 5}
        assert len({each.said["pid"] for each in got if each.status == 200}) == 2
        over = next(each for each in got if each.status == 429)
        assert int(over.headers["retry-after"]) > 0
        assert over.said["violated-policies"] == ["narrow"]
        assert over.headers["ratelimit"].startswith('"narrow";r=0')
        assert (await house.call("/stock", wide)).status == 200


async def test_each_use_is_counted_once_with_its_status_operation_and_plan(house):
    wide, narrow = await house.key(), await house.key("bob")
    before = SystemClock().unix_ns()
    await house.until(200, "/stock", wide)
    first = len(await house.uses(1))
    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(house.call("/stock", wide))
    await house.until(200, "/talk", narrow)
    assert [(await house.call("/talk", narrow)).status for _ in range(4)] == [200, 200, 429, 429]
    await house.call("/stock")
    uses = await house.uses(first + 40 + 3)
    assert len(uses) == first + 43
    assert len({each.id for each in uses}) == len(uses)
    assert Counter((u.consumer, u.operation, u.plan, u.status, u.billed) for u in uses) == {
        ("ann", "readStock", "wide", 200, True): first + 40,
        ("bob", "talk", "narrow", 200, True): 3,
    }
    sums = await used(house.store, begins_ns=before, ends_ns=SystemClock().unix_ns())
    by = {(key.consumer, key.operation, key.meter): each.amount for key, each in sums.items()}
    assert by == {
        ("ann", "readStock", "requests"): 2 * (first + 40),
        ("bob", "talk", "requests"): 3,
    }
    sidecars = house.gateway.sidecars
    assert (sidecars.admitted, sidecars.reported) == (len(uses), len(uses))
    assert (sidecars.dropped, sidecars.strange) == (0, 0)


async def test_a_failed_program_is_not_billed(house):
    key = await house.key()
    await house.until(200, "/stock", key)
    count = len(await house.uses(1))
    for process in house.mesh.processes:
        _, answer = await _killed(house, key, process)
        assert answer.status == 503
    uses = await house.uses(count + 1)
    assert {each.status for each in uses if not each.billed} == {503}


async def _killed(house, key, sidecar):
    """Kill the program and leave its Envoy; return the answer of the call after that."""
    pid = (await house.call("/stock", key)).said["pid"]
    frozen = await asyncio.create_subprocess_exec("kill", "-STOP", str(sidecar.pid))
    await frozen.wait()
    killed = await asyncio.create_subprocess_exec("kill", "-KILL", str(pid))
    await killed.wait()
    try:
        return pid, await house.call("/stock", key)
    finally:
        thawed = await asyncio.create_subprocess_exec("kill", "-CONT", str(sidecar.pid))
        await thawed.wait()


async def test_what_was_lost_while_nobody_took_the_logs_is_known(house):
    key = await house.key()
    await house.until(200, "/stock", key)
    sidecars = house.gateway.sidecars

    async def caught_up() -> bool:
        return sidecars.reported == sidecars.admitted

    await until(caught_up)
    await house.away.aclose()
    before = sidecars.admitted
    for _ in range(20):
        assert (await house.call("/stock", key)).status == 200
    assert sidecars.admitted == before + 20
    await house.watched()

    async def reports_again() -> bool:
        reported = sidecars.reported
        assert (await house.call("/stock", key)).status == 200
        await asyncio.sleep(0)
        return sidecars.reported > reported

    await until(reports_again)
    after = sidecars.admitted
    for _ in range(20):
        await house.call("/stock", key)

    async def last_are_there() -> bool:
        return sidecars.admitted - sidecars.reported <= after - before

    await until(last_are_there)

    async def all_kept() -> bool:
        return len(await house.uses(1)) == sidecars.reported

    await until(all_kept)
    uses = await house.uses(1)
    assert len({each.id for each in uses}) == len(uses)
    assert sidecars.reported < sidecars.admitted, "what was lost is not taken for reported"


PRODUCTLESS = OPEN + consumer("eve")
OTHER = product("goods", "routes:", "- {path: '/{rest+}', to: {service: stock}}")


async def test_a_service_that_is_guarded_once_is_never_open_until_it_is_meant_to_be(tmp_path):
    async with guarded(tmp_path, PRODUCTLESS) as house:
        await house.mesh.program("stock")
        await house.mesh.joined(1)
        key = await house.key("eve")
        met: list[int] = []

        async def ask() -> None:
            while True:
                met.append((await house.call("/stock")).status)

        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask(), name="ask without a key")
            await house.call("/stock")
            edits = (
                WORLD,
                WORLD.replace("cost: 2", "cost: 3"),
                WORLD + OTHER,
                OPEN + OTHER + consumer("ann", goods="wide"),
                WORLD,
            )
            await house.become(edits[0])
            assert (await house.call("/stock")).status == 401
            for edit in edits[1:]:
                await house.become(edit)
                since = len(met)
                await until(lambda since=since: _more(met, since))
            asking.cancel()
        refused = next(i for i, status in enumerate(met) if status != 200)
        assert met[0] == 200
        assert set(met[refused:]) <= {401, 503}
        assert met[-1] == 401
        await house.become(PRODUCTLESS)
        assert (await house.call("/stock")).status == 200
        assert (await house.call("/stock", key)).said["headers"]["x-api-key"] == key


async def _more(met, since):
    return len(met) > since + 5


async def test_without_the_gateway_what_it_guards_is_refused(house):
    key = await house.key()
    await house.until(200, "/stock", key)
    house.guards.sidecars = None
    refused = await house.call("/stock", key)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.said["detail"] == "Wherry is starting."


async def test_a_check_service_of_its_own_refuses_what_products_guard():
    worlds = Worlds(assemble({Path("mesh.yaml"): WORLD}))
    check = wire.MESSAGES["CheckRequest"](
        attributes={
            "context_extensions": {"service": "stock"},
            "request": {"http": {"method": "GET", "path": "/stock", "host": "stock"}},
        }
    )
    async with (
        running(Settings(), worlds=worlds) as service,
        grpc.aio.insecure_channel(str(service.address)) as channel,
    ):
        ask = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        answer = wire.MESSAGES["CheckResponse"].FromString(await ask(check.SerializeToString()))
    assert answer.denied_response.status.code == 403
    assert not answer.HasField("ok_response")


NEAR = WORLD.replace("plans: [wide, narrow]", "plans: [wide, narrow]\n  TRAFFIC", 1)
NEAR += route("web", to("web"), hosts="[web]")


async def test_the_address_that_counts_is_the_connections(tmp_path):
    near = NEAR.replace("TRAFFIC", "traffic: {addresses: {allow: [127.0.0.0/8]}}")
    far = NEAR.replace("TRAFFIC", "traffic: {addresses: {allow: [10.0.0.0/8]}}")
    async with guarded(tmp_path, near) as house:
        await house.mesh.program("stock")
        await house.mesh.joined(1)
        key = await house.key()
        await house.until(200, "/stock", key)
        await house.become(far)
        claims = {"x-forwarded-for": "10.1.1.1", "x-wherry-address": "10.1.1.1"}
        await house.until(403, "/stock", key)
        assert (await house.call("/stock", key, **claims)).status == 403
        await house.mesh.program("web")
        await house.mesh.joined(2)
        proxy = (await house.call("/", Host="web")).said["proxy"]
        sent = {"x-api-key": key, **claims}
        async with house.client.get("http://stock/stock", headers=sent, proxy=proxy) as answer:
            assert answer.status == 403
        await house.become(near)
        await house.until(200, "/stock", key)
        async with house.client.get("http://stock/stock", headers=sent, proxy=proxy) as answer:
            assert answer.status == 200
            told = (await answer.json(content_type=None))["headers"]
        assert told["x-forwarded-for"] == "10.1.1.1"
        assert "x-wherry-address" not in told
