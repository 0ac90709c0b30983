"""A gateway with a real upstream and a real Lambda API in HTTP around it, for tests."""

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from textwrap import indent

import aiohttp
from aiohttp import web

from gateway import keyring
from gateway.app import Settings, running
from gateway.metering.batch import uses
from gateway.pepper import pepper
from gateway.usage import LOG
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.serve import Address
from wherry.store.memory import MemoryStore

PROBLEM = "application/problem+json"
ROUTES = """
- {path: "/shop/{rest+}", to: {service: shop, rewrite: /}}
- {path: /items, methods: [GET, POST], to: {service: shop}}
- {path: "/call/{name}", to: {function: hello}}
"""


def world(*, routes=ROUTES, requests=1000, more="", product=""):
    text = f"""
services: {{shop: {{}}}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {{name: basic}}
spec: {{rate: {{requests: {requests}, per: 1m}}}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {{name: store}}
spec:
  plans: [basic]
  {product}
  routes:
{indent(routes.strip(), "  ")}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: alice}}
spec: {{subscriptions: [{{product: store, plan: basic}}]}}
{more}
"""
    return assemble({Path("world.yaml"): text})


OTHER = """
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: other}
spec: {plans: [basic], routes: [{path: /other, to: {service: shop}}]}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: bob}
spec: {subscriptions: [{product: other, plan: basic}]}
"""


async def recorded(store):
    """Return every use in the log."""
    return [each for event in await store.read(LOG, limit=10_000) for each in uses(event.body)]


class Upstream:
    """The shop behind the mesh, and the Lambda API: records what reached them."""

    def __init__(self):
        self.requests, self.bodies, self.answers = [], [], {}
        self.events = []
        self.traces = []
        self.result = {"hello": "world"}
        self.lambda_status, self.lambda_headers = 200, {}
        self.release = asyncio.Event()
        self.waiting, self.gone = asyncio.Event(), asyncio.Event()
        self.first_chunk = asyncio.Event()

    async def shop(self, request):  # noqa: PLR0911 (one answer for each path)
        if request.path == "/stream":
            return await self.stream(request)
        if request.path == "/socket":
            return await self.socket(request)
        if request.path.startswith("/say/"):
            return await self.say(request)
        if request.path == "/break":
            answer = web.StreamResponse()
            answer.content_length = 100
            await answer.prepare(request)
            await answer.write(b"half")
            request.transport.abort()
            return answer
        if request.path == "/garbage":
            request.transport.write(b"this is not HTTP\r\n\r\n")
            request.transport.close()
            return web.Response()
        if request.path in {"/hang", "/wait"}:
            self.waiting.set()
            try:
                await self.release.wait()
            finally:
                self.gone.set()
        if request.path == "/upload":
            digest, size = hashlib.sha256(), 0
            async for chunk in request.content.iter_any():
                self.first_chunk.set()
                digest.update(chunk)
                size += len(chunk)
            return web.json_response({"sha256": digest.hexdigest(), "size": size})
        body = await request.read()
        self.requests.append(request)
        headers = {
            "X-Envoy-Upstream-Service-Time": "1",
            "Connection": "x-hop",
            "X-Hop": "1",
            "X-Kept": "yes",
        }
        return web.json_response(
            {"path": request.raw_path, "body": body.decode("latin-1")}, status=201, headers=headers
        )

    async def socket(self, request):
        """Say back what is said, and hang up when told to."""
        answer = web.WebSocketResponse(protocols=("chat",))
        await answer.prepare(request)
        self.requests.append(request)
        async for message in answer:
            if message.data == "bye":
                break
            await answer.send_str(f"you said {message.data}")
        await answer.close(code=4000)
        return answer

    async def say(self, request):
        """Answer with the next of `answers` for this path; the last one again and again."""
        self.requests.append(request)
        self.bodies.append(await request.read())
        waiting = self.answers[request.path]
        status, headers, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return web.Response(status=status, headers=headers, body=body)

    async def stream(self, request):
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await self.release.wait()
        await answer.write(b"data: 2\n\n")
        return answer

    async def invoke(self, request):
        self.events.append((request.match_info["name"], await request.json()))
        self.traces.append(
            (request.headers.get("traceparent"), request.headers.get("X-Amzn-Trace-Id"))
        )
        body = self.result if isinstance(self.result, bytes) else json.dumps(self.result).encode()
        return web.Response(status=self.lambda_status, headers=self.lambda_headers, body=body)


class Site:
    """A running gateway and what is around it."""

    def __init__(self, address, upstream, store, worlds, client, state):
        self.address, self.upstream, self.store = address, upstream, store
        self.worlds, self.client, self.state = worlds, client, state
        self.key = ""

    async def new_key(self, consumer="alice", **more):
        secret = pepper(self.state / "pepper")
        now = SystemClock().unix_ns()
        key, text = await keyring.create(self.store, secret, consumer, now_ns=now, **more)
        return key, text

    async def call(self, path, *, method="GET", key=None, headers=None, **more):
        headers = {"x-api-key": self.key if key is None else key, **(headers or {})}
        url = self.address.url + path
        return await self.client.request(method, url, headers=headers, **more)

    async def until(self, status, path, *, key, within=2.0):
        """Call until the answer has ``status``; return the seconds that it took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(within):
            while True:
                async with await self.call(path, key=key) as answer:
                    if answer.status == status:
                        return loop.time() - start

    async def usage(self, count):
        async with asyncio.timeout(5):
            while True:
                found = await recorded(self.store)
                if len(found) >= count:
                    return found
                await asyncio.sleep(0)

    async def raw(self, data, *, stay=False):
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        writer.write(data)
        await writer.drain()
        try:
            async with asyncio.timeout(10):
                return await (reader.readuntil(b"\r\n\r\n") if stay else reader.read())
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def site(tmp_path, made=None, *, store=None, mesh=True, functions=True, **settings):
    upstream = Upstream()
    shop = web.Application(client_max_size=1 << 30, handler_args={"handler_cancellation": True})
    shop.router.add_route("*", "/{rest:.*}", upstream.shop)
    platform = web.Application(client_max_size=1 << 30)
    platform.router.add_post("/2015-03-31/functions/{name}/invocations", upstream.invoke)
    async with AsyncExitStack() as stack:
        for app, kind in ((shop, "unix"), (platform, "tcp")):
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            if kind == "unix":
                await web.UnixSite(runner, str(tmp_path / "mesh.sock")).start()
            else:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                lambda_url = "http://{}:{}".format(*runner.addresses[0])
        store = store or MemoryStore()
        worlds = Worlds(made or world())
        chosen = Settings(
            pepper=tmp_path / "pepper",
            address=Address(),
            lambda_url=lambda_url if functions else None,
            mesh=tmp_path / "mesh.sock" if mesh else None,
            **settings,
        )
        now = SystemClock().unix_ns()
        _, key = await keyring.create(store, pepper(chosen.pepper), "alice", now_ns=now)
        ran = await stack.enter_async_context(running(chosen, store=store, worlds=worlds))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        made = Site(ran.address, upstream, store, worlds, client, tmp_path)
        made.metrics = ran.metrics
        made.key = key
        yield made


async def problem(answer):
    assert answer.headers["Content-Type"] == PROBLEM
    document = json.loads(await answer.read())
    assert document["status"] == answer.status
    return document
