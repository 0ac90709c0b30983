"""Envoys of the house check programs; a program that is unwell gets no requests."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from grpc_health.v1 import health as grpc_health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from support.members import WHERRY, mesh, until
from support.proxyless import backends, client

import xds.app
from wherry.cli.envoys import Envoy, free_port, serving
from wherry.clock import SystemClock

pytestmark = pytest.mark.e2e

MESH = """
services:
  web: {}
---
apiVersion: wherry.dev/v1
kind: HealthCheck
metadata: {name: web}
spec:
  service: web
  http: {path: /healthz}
  interval: 200ms
  timeout: 1s
  unhealthyThreshold: 2
  healthyThreshold: 1
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: door}
spec:
  gatewayClassName: wherry
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: door}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
"""

MOODY = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

mood = Path(sys.argv[1])

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        checked = self.path == "/healthz"
        body = mood.name.encode()
        self.send_response(503 if checked and mood.exists() else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
"""A program that is unwell while a file is there, and says which file."""


class Door:
    """Sends requests to the gateway and counts who answers."""

    def __init__(self, client, port):
        self._client, self._url = client, f"http://127.0.0.1:{port}/"

    async def get(self):
        async with self._client.get(self._url) as answer:
            return answer.status, await answer.text()

    async def answering(self, count=20):
        return Counter([(await self.get())[1] for _ in range(count)])

    async def only(self, *names):
        """Return when nobody else than ``names``, and each of them, answers."""

        async def so():
            return set(await self.answering()) == set(names)

        await until(so)


@asynccontextmanager
async def two_behind_a_door(folder, text=MESH):
    """Yield the mesh, the files that make its two programs unwell, and the door to them."""
    program = folder / "moody.py"
    program.write_text(MOODY)
    moods = folder / "one", folder / "two"
    port = free_port()
    about = {"role": "gateway", "gateway": "door", "ports": {"80": port}, "address": "127.0.0.1"}
    async with (
        mesh(folder, text) as made,
        aiohttp.ClientSession() as client,
        serving(Envoy("gateway~door", about, made.pilot.address, folder)),
    ):
        for mood in moods:
            command = [sys.executable, str(program), str(mood)]
            await made.sidecar("--service", "web", "--port", "0", "--", *command)
        await made.joined(2)
        door = Door(client, port)
        await door.only("one", "two")
        yield made, *moods, door


async def test_a_program_that_says_it_is_unwell_gets_no_requests_until_it_is_well(tmp_path):
    async with two_behind_a_door(tmp_path) as (made, one, two, door):
        one.touch()
        await door.only("two")
        assert await door.answering(100) == {"two": 100}
        assert [each.healthy for each in made.pilot.health()].count(False) == 1

        two.touch()
        await until(lambda: _status(door, 503))

        one.unlink()
        await door.only("one")
        two.unlink()
        await door.only("one", "two")


GRPC = """
services: {greeter: {}}
---
apiVersion: wherry.dev/v1
kind: HealthCheck
metadata: {name: greeter}
spec: {service: greeter, grpc: {service: greeter}, interval: 200ms}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: door}
spec:
  gatewayClassName: wherry
  listeners: [{name: http, port: 80, protocol: HTTP}]
"""


@pytest.mark.parametrize("where", ["the Pilot that hears the checker", "another at its Store"])
async def test_a_grpc_program_that_does_not_serve_gets_no_calls_from_clients_without_an_envoy(
    tmp_path, where
):
    about = {"role": "gateway", "gateway": "door", "ports": {"80": free_port()}}
    async with (
        mesh(tmp_path, GRPC) as made,
        serving(Envoy("gateway~door", about, made.pilot.address, tmp_path)),
        backends(made.pilot.address) as programs,
        xds.app.running(
            xds.app.Settings(), store=made.store, worlds=made.worlds, clock=SystemClock()
        ) as other,
    ):
        pilot = other if where.startswith("another") else made.pilot
        moods = {word: grpc_health.aio.HealthServicer() for word in ("a", "b")}
        for word, mood in moods.items():
            await mood.set("greeter", HealthCheckResponse.SERVING)
            await programs.add(word, "greeter", health=mood)
        async with client(pilot.address) as caller:

            async def only(*words):
                async def so():
                    return set(await caller.calls("greeter", 20)) == set(words)

                await until(so)

            await only("a", "b")
            await moods["a"].set("greeter", HealthCheckResponse.NOT_SERVING)
            await only("b")
            assert await caller.calls("greeter", 50) == {"b": 50}
            await moods["a"].set("greeter", HealthCheckResponse.SERVING)
            await only("a", "b")


async def test_what_an_envoy_sends_is_shown_by_wherry_loads(tmp_path):
    async with two_behind_a_door(tmp_path) as (made, _, _, door):

        async def reported():
            await door.answering()  # an Envoy counts from its first report of a cluster on
            rows = json.loads(await _wherry("loads", "--json", "--url", str(made.pilot.pages)))
            sent = [place for each in rows["clusters"] if each["cluster"] == "web"
                    for place in each["places"]]  # fmt: skip
            return sum(place["issued"] for place in sent) >= 20

        await until(reported, seconds=40)
        shown = await _wherry("loads", "--url", str(made.pilot.pages))
    (line,) = [line for line in shown.splitlines() if line.startswith("web ")]
    assert "local" in line
    assert "gateway~door" in line


async def _wherry(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, WHERRY, *arguments, stdout=PIPE, env={**os.environ, "COLUMNS": "120"}
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def _status(door, status):
    return (await door.get())[0] == status
