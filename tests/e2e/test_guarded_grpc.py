"""Calls of gRPC by way of real Envoys, with a key that the sidecar of a real server checks."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from support.edge import route, to
from support.guarded import House, consumer, guarded, plans, product
from support.members import until
from yarl import URL

from xds.builders import rules

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).parents[1] / "support" / "grpc_program.py"
WORLD = """\
services:
  greeter: {appProtocol: grpc}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: wherry, listeners: [{name: http, port: 80}]}
"""
WORLD += route("all", to("greeter")) + plans()
WORLD += product(
    "greetings",
    "routes:",
    "- {path: '/test.Test/{method}', operation: call, to: {service: greeter}}",
    "- {path: /test.Test/Echo, scopes: [talk], operation: echo, to: {service: greeter}}",
    "scopes: {talk: Talk}",
)
WORLD += consumer("ann", greetings="wide") + consumer("bob", greetings="narrow")


class Caller:
    """A client of gRPC at the ingress."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def say(self, method: str, key: str = "", request: bytes = b"hi"):
        """Return what a unary call answers and its first metadata, or how it fails."""
        call = self.channel.unary_unary(f"/test.Test/{method}")
        try:
            call = call(request, metadata=_with(key), timeout=20)
            return await call, dict(await call.initial_metadata())
        except grpc.aio.AioRpcError as error:
            return error

    async def code(self, method: str, key: str = "", request: bytes = b"hi") -> StatusCode:
        said = await self.say(method, key, request)
        return StatusCode.OK if isinstance(said, tuple) else said.code()


def _with(key: str):
    return (("x-api-key", key),) if key else ()


@asynccontextmanager
async def greeting(folder: Path, text: str = WORLD) -> AsyncIterator[tuple[House, Caller]]:
    async with guarded(folder, text) as house:
        program = ["--", sys.executable, str(PROGRAM)]
        await house.mesh.sidecar("--service", "greeter", "--port", "0", *program)
        await house.mesh.joined(1)
        url = URL(house.at)
        async with grpc.aio.insecure_channel(f"{url.host}:{url.port}") as channel:
            yield house, Caller(channel)


async def test_a_key_in_the_metadata_opens_a_method_and_refusals_are_told_as_grpc_does(tmp_path):
    async with greeting(tmp_path) as (house, caller):
        unkeyed = await caller.say("Say")
        assert unkeyed.code() is StatusCode.UNAUTHENTICATED
        assert unkeyed.details().startswith("This needs a valid key")
        assert "www-authenticate" in dict(unkeyed.trailing_metadata())

        key, narrow = await house.key(scopes=[]), await house.key("bob")
        await until(lambda: _ok(caller, key))
        answer, metadata = await caller.say("Say", key)
        told = json.loads(answer)["metadata"]
        assert told["x-wherry-consumer"] == "ann"
        assert "x-api-key" not in told
        assert metadata["ratelimit"].startswith('"wide"')
        assert await caller.code("Say", key[:-3] + "abc") is StatusCode.UNAUTHENTICATED
        assert await caller.code("Echo", key) is StatusCode.PERMISSION_DENIED
        assert await caller.code("More/Deeper", key) is StatusCode.UNIMPLEMENTED
        assert await caller.code("Nothing", key) is StatusCode.UNIMPLEMENTED
        assert await caller.code("Fail", key, b"ABORTED") is StatusCode.ABORTED

        said = [await caller.say("Say", narrow) for _ in range(4)]
        over = said.pop()
        assert all(isinstance(each, tuple) for each in said)
        assert over.code() is StatusCode.RESOURCE_EXHAUSTED
        assert over.details().startswith("Plan 'narrow' is used up")
        assert int(dict(over.trailing_metadata())["retry-after"]) > 0

        house.guards.sidecars = None
        assert await caller.code("Say", key) is StatusCode.UNAVAILABLE


async def _ok(caller: Caller, key: str) -> bool:
    return await caller.code("Say", key) is StatusCode.OK


async def test_use_is_counted_by_the_status_of_grpc(tmp_path):
    async with greeting(tmp_path) as (house, caller):
        key = await house.key()
        await until(lambda: _ok(caller, key))
        first = len(await house.uses(1))
        for status in ("INTERNAL", "UNAVAILABLE", "NOT_FOUND", "RESOURCE_EXHAUSTED"):
            assert (await caller.code("Fail", key, status.encode())).name == status
        assert await caller.code("Say") is StatusCode.UNAUTHENTICATED
        uses = (await house.uses(first + 4))[first:]
        assert [(each.status, each.billed) for each in uses] == [
            (500, False),
            (503, False),
            (404, True),
            (429, True),
        ]


async def test_streams_last_as_long_as_their_client_wants(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "REQUEST_TIMEOUT", 0.5)
    rules._manners.cache_clear()
    try:
        async with greeting(tmp_path) as (house, caller):
            key = await house.key()
            await until(lambda: _ok(caller, key))
            counted = caller.channel.unary_stream("/test.Test/Count")(b"500", metadata=_with(key))
            assert [int(each) async for each in counted] == list(range(500))

            loop = asyncio.get_running_loop()
            began, drops = loop.time(), 0
            drip = caller.channel.unary_stream("/test.Test/Drip")(b"", metadata=_with(key))
            async for _ in drip:
                drops += 1
                if loop.time() - began > 3 * rules.REQUEST_TIMEOUT:
                    break
            drip.cancel()
            assert drops > 10

            echo = caller.channel.stream_stream("/test.Test/Echo")(metadata=_with(key))
            for number in range(3):
                await echo.write(b"%d" % number)
                assert await echo.read() == b"%d" % number
            await echo.done_writing()
            assert await echo.read() is grpc.aio.EOF

            async def counted_all() -> bool:
                return {"call", "echo"} <= {each.operation for each in await house.uses(1)}

            await until(counted_all)
            assert 499 in {each.status for each in await house.uses(4)}
    finally:
        rules._manners.cache_clear()


async def test_a_program_that_begins_to_speak_grpc_is_spoken_to_so_at_once(tmp_path):
    async with greeting(tmp_path) as (house, caller):
        key = await house.key()
        await until(lambda: _ok(caller, key))
        plain = WORLD.replace("{appProtocol: grpc}", "{}")
        await house.become(plain)
        assert await caller.code("Say", key) is StatusCode.UNAVAILABLE
        await house.become(WORLD)
        await until(lambda: _ok(caller, key))


HEALTH = """\
---
apiVersion: wherry.dev/v1
kind: HealthCheck
metadata: {name: greeter}
spec:
  {service: greeter, grpc: {}, interval: 100ms, unhealthyThreshold: 1, healthyThreshold: 1}
"""


async def test_a_grpc_program_is_asked_through_its_sidecar_whether_it_is_well(tmp_path):
    text = WORLD.partition("---\napiVersion: wherry.dev/v1\nkind: Plan")[0] + HEALTH
    async with greeting(tmp_path, text) as (_, caller):
        await until(lambda: _ok(caller, ""))
        assert await caller.code("Feel", request=b"sick") is StatusCode.OK

        async def left_alone() -> bool:
            return await caller.code("Say") is StatusCode.UNAVAILABLE

        await until(left_alone)
