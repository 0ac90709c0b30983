"""`wherry run xds --workers N`: several Pilots on one port, watched over by a parent."""

import asyncio
import json
import os
import signal
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import web
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from support.house import alive
from support.members import until
from support.several import (
    METHOD,
    OWN_CONNECTION,
    SIDECAR,
    Request,
    Response,
    all_here,
    clients,
    several,
)

from wherry.cli.envoys import Envoy, serving
from wherry.serve import Address, bound, reserved
from xds.heartbeat import heartbeat, register
from xds.resource import ENDPOINT
from xds.workload import Workload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MESH = "services: {web: {}, other: {}}\n"
EDGE = """\
services: {web: {}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web}]}]}
"""
WINDOW = 0.1


def most_at_once(times: list[float]) -> int:
    """Return how many of ``times`` lie within one `WINDOW` at most."""
    ordered = sorted(times)
    return max(sum(t <= later < t + WINDOW for later in ordered) for t in ordered)


async def test_what_is_written_through_one_worker_reaches_the_clients_of_all(tmp_path):
    async with several(tmp_path, MESH) as pilot, clients(pilot.address, 24) as asking:
        assert len(pilot.workers()) == 2
        before = {len(client.held) for client in asking}
        assert len(before) == 1
        (tmp_path / "mesh.staged").write_text("services: {web: {}, other: {}, third: {}}\n")
        (tmp_path / "mesh.staged").replace(tmp_path / "mesh.yaml")

        async def all_know():
            return all(len(client.held) > min(before) for client in asking)

        await until(all_know)
        assert len({frozenset(client.held.items()) for client in asking}) == 1


async def test_a_worker_that_dies_is_started_again_and_its_clients_come_back(tmp_path):
    async with several(tmp_path, MESH) as pilot, clients(pilot.address, 24) as asking:
        victim, other = pilot.workers()
        os.kill(victim, signal.SIGKILL)
        await pilot.says("worker serves", times=3)
        assert other in pilot.workers()

        await all_here(asking)
        hit = [client for client in asking if client.lost]
        assert 0 < len(hit) < len(asking)
        assert not [name for client in hit for name in client.again]


async def test_a_rolling_restart_spreads_clients_sends_nothing_again_and_harms_no_request(tmp_path):
    async with (
        several(tmp_path, EDGE) as pilot,
        ingress(pilot.address, tmp_path) as asks,
        clients(pilot.address, 200) as asking,
        flowing(asks) as seen,
    ):
        old = pilot.workers()
        await pilot.replaced()
        assert not set(old) & set(pilot.workers())
        await all_here(asking)
        ends = [end for client in asking for end in client.lost]
        assert all(client.lost for client in asking)
        assert {code for _, code, _ in ends} == {grpc.StatusCode.UNAVAILABLE}
        assert all("handed over" in text for _, _, text in ends)
        burst = most_at_once([back for client in asking for back in client.back[1:]])
        print(f"{len(ends)} streams handed over, {burst} at most came back within {WINDOW} s")
        assert burst <= 0.25 * len(asking)
        assert not [name for client in asking for name in client.again]
        print(f"{seen.total()} requests meanwhile")
        assert seen.keys() == {200}, seen


@asynccontextmanager
async def ingress(address, folder):
    """Run a service behind an Envoy; yield what sends it a request and returns the status."""

    async def answer(_):
        return web.Response(text="web")

    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        workload = Workload("w1", "web", "v1", "127.0.0.1", runner.addresses[0][1])
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(group.create_task(heartbeat(address, workload)).cancel)
        held = bound(stack.enter_context(reserved("ingress", Address())))
        metadata = {"role": "gateway", "gateway": "edge", "ports": {"80": held.port}}
        spec = Envoy("gateway~edge", metadata, Address.parse(address), folder)
        await stack.enter_async_context(serving(spec))
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def asks():
            try:
                async with session.get(held.url) as response:
                    await response.read()
                    return response.status
            except aiohttp.ClientError as error:
                return repr(error)

        async def works():
            return await asks() == 200

        await until(works)
        yield asks


@asynccontextmanager
async def flowing(asks):
    """Send about 100 requests a second until the block ends; yield how they ended."""
    seen = Counter()

    async def flow():
        while True:
            seen[await asks()] += 1
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(flow())
        yield seen
        task.cancel()


async def test_a_port_that_another_program_has_is_not_shared(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AssertionError, match="is taken by another program"):
            async with several(tmp_path, MESH, port=taken.getsockname()[1]):
                pass


async def test_a_worker_that_cannot_start_ends_the_whole_with_its_reason(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "wherry.db").write_text("no database at all, but long enough" * 99)
    with pytest.raises(AssertionError, match=r"(?s)store .*ended with status 1 while starting"):
        async with several(tmp_path, MESH):
            pass


async def test_workers_end_when_their_parent_is_killed(tmp_path):
    async with several(tmp_path, MESH) as pilot:
        workers = pilot.workers()
        pilot.process.kill()

        async def gone():
            return not any(alive(pid) for pid in workers)

        await until(gone)


@asynccontextmanager
async def asked(pilot):
    """Yield what asks the port for operators."""
    line = await pilot.says("operators are answered")
    url = f"http://{line.rpartition('address=')[2]}"
    async with aiohttp.ClientSession() as session:

        async def get(path):
            async with session.get(url + path) as response:
                text = await response.text()
                return response.status, json.loads(text) if text.startswith("{") else text

        yield get


def value_of(text, name):
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def test_one_port_answers_operators_for_all_workers(tmp_path):
    async with (
        several(tmp_path, MESH) as pilot,
        asked(pilot) as get,
        clients(pilot.address, 24) as asking,
    ):

        async def all_settled():
            rows = (await get("/api/proxies"))[1]["proxies"]
            return len(rows) == 24 and all(row["streams"][0]["settled"] for row in rows)

        await until(all_settled)
        _, listing = await get("/api/proxies")
        assert [p["node"] for p in listing["proxies"]] == sorted(c.node for c in asking)
        _, text = await get("/metrics")
        assert value_of(text, "wherry_xds_streams{") == 24
        assert value_of(text, "wherry_xds_streams_opened_total") == 24
        for node in ("client-7", "client-23"):
            _, one = await get(f"/api/proxies/{node}")
            assert [p["node"] for p in one["proxies"]] == [node]
            _, config = await get(f"/api/proxies/{node}/config?type=cds&bodies=false")
            assert config["node"] == node
            held = {r["name"] for r in config["resources"] if r["state"] == "held"}
            assert held == set(asking[0].held)
        _, found = await get("/api/proxies/client-23/diff")
        assert (found["held"], [r["name"] for r in found["resources"]]) == (
            len(asking[0].held),
            ["nothing"],
        )
        status, unclear = await get("/api/proxies/client-1x")
        assert (status, "none is connected" in unclear["error"]) == (404, True)
        status, unclear = await get("/api/proxies/clien")
        assert (status, "are named so" in unclear["error"]) == (404, True)
        assert await get("/api/load") == (200, {"clusters": [], "nodes": [], "omitted": 0})
        assert await get("/healthz") == (200, "ok\n")


async def test_counters_do_not_fall_when_a_worker_is_replaced(tmp_path):
    async with several(tmp_path, MESH) as pilot, asked(pilot) as get:
        async with clients(pilot.address, 8):
            before = value_of((await get("/metrics"))[1], "wherry_xds_pushes_total")
            assert before >= 8
        await pilot.replaced()
        after = (await get("/metrics"))[1]
        assert value_of(after, "wherry_xds_pushes_total") >= before
        assert value_of(after, "wherry_xds_streams{") == 0


async def test_a_poll_is_answered_by_one_of_the_workers(tmp_path):
    async with several(tmp_path, MESH) as pilot, asked(pilot):
        url = (await pilot.says("operators are answered")).rpartition("address=")[2]
        ask = {"node": {"id": "poller", "metadata": SIDECAR}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{url}/v3/discovery:clusters", json=ask) as response,
        ):
            assert response.status == 200
            assert "web" in {r["name"] for r in (await response.json())["resources"]}


async def test_a_registration_reaches_the_endpoints_that_each_worker_serves(tmp_path):
    async with several(tmp_path, MESH, workers=2) as pilot, AsyncExitStack() as stack:
        watching = [
            await stack.enter_async_context(endpoints_of(pilot.address, "web", f"watch-{n}"))
            for n in range(12)
        ]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(pilot.address))
        slowest = []
        for turn in range(1, 11):
            began = time.perf_counter()
            await register(channel, Workload(f"w{turn}", "web", "v1", "127.0.0.1", turn), 30)
            async with asyncio.timeout(10):
                for heard in watching:
                    assert len(await heard()) == turn
            slowest.append(time.perf_counter() - began)
        median, most = sorted(slowest)[5], max(slowest)
        print(f"from a registration to all: median {median:.3f} s, most {most:.3f} s")


@asynccontextmanager
async def endpoints_of(address, service, node):
    """Yield what returns the addresses of a service after each change, on an own connection."""
    async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        call = channel.stream_stream(METHOD)()
        first = Request(type_url=ENDPOINT, resource_names_subscribe=[service])
        first.node.id = node
        first.node.metadata.update(SIDECAR)
        await call.write(first.SerializeToString())

        async def heard():
            response = Response.FromString(await call.read())
            ack = Request(type_url=ENDPOINT, response_nonce=response.nonce)
            await call.write(ack.SerializeToString())
            assignment = ClusterLoadAssignment.parse(response.resources[0].resource.value)
            return [e for group in assignment.endpoints for e in group.lb_endpoints]

        assert await heard() == []
        yield heard
        call.cancel()
