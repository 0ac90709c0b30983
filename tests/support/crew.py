"""Runs `wherry run gateway --workers N` as a user does, with a shop behind it, for tests."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from gateway import keyring
from gateway.pepper import pepper
from support.gateway_site import recorded
from support.house import alive
from support.members import WHERRY
from support.several import Several
from wherry.clock import SystemClock
from wherry.store import Store, opened

CATALOGUE = """
services: {shop: {}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
spec: {quotas: [{name: all, limit: LIMIT, window: year}]}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: store}
spec:
  plans: [basic]
  routes:
  - {path: /items, to: {service: shop}}
  - {path: /stream, to: {service: shop}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: store, plan: basic}]}
"""


@dataclass
class Crew:
    """Several gateways at one address.

    Attributes:
        gateway: The parent process.
        store: The Store that they share, opened once more.
        kept_in: The URL of the Store.
        url: Of the gateways.
        admin: Of the admin API.
        key: Of alice.
        state: Their state folder.
        source: Their configuration.
        answered: When the answers of `calling` were whole, in seconds of the loop.
        failed: How the other calls of it ended.
    """

    gateway: Several
    store: Store
    kept_in: str
    url: str
    admin: str
    key: str
    state: Path
    source: Path
    answered: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as client, client.get(f"{self.admin}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()

    async def counted(self) -> int:
        """Return the calls in the sum of the metrics."""
        return await self.metric("wherry_gateway_calls_total{")

    async def metric(self, name: str) -> int:
        """Return the sum of the metrics whose lines begin with ``name``."""
        lines = (await self.metrics()).splitlines()
        named = [line for line in lines if line.startswith(name)]
        return int(sum(float(line.rpartition(" ")[2]) for line in named))

    async def recorded(self) -> int:
        """Return how many calls the Store's log holds; all of them, after the block of `crew`."""
        async with opened(self.kept_in) as store:
            found = await recorded(store)
        assert len({use.id for use in found}) == len(found)
        return len(found)

    def become(self, old: str, new: str) -> None:
        """Put ``new`` in the place of ``old`` in `CATALOGUE`, as an editor does."""
        staged = self.source.with_suffix(".staged")
        staged.write_text(CATALOGUE.replace(old, new))
        staged.replace(self.source)

    @asynccontextmanager
    async def calling(self, clients: int = 4, *, keep: bool = True):
        """Call without a pause until the block ends, on kept connections or on new ones."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def call() -> None:
            connector = aiohttp.TCPConnector(force_close=not keep)
            headers = {"x-api-key": self.key}
            async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
                while not done.is_set():
                    try:
                        async with client.get(f"{self.url}/items") as answer:
                            text = await answer.text()
                    except (aiohttp.ClientError, OSError) as error:
                        self.failed.append((loop.time(), repr(error)))
                        continue
                    if (answer.status, text) == (200, "hello"):
                        self.answered.append(loop.time())
                    else:
                        self.failed.append((loop.time(), f"{answer.status} {text}"))

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(call())
            try:
                yield
            finally:
                done.set()


@asynccontextmanager
async def shop(socket: Path, stream: asyncio.Event):
    """Answer at ``socket`` as the mesh would; ``/stream`` ends when ``stream`` is set."""

    async def items(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await stream.wait()
        await answer.write(b"data: 2\n\n")
        return answer

    app = web.Application()
    app.router.add_get("/items", items)
    app.router.add_get("/stream", events)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def crew(
    folder: Path,
    *more: str,
    store: str | None = None,
    workers: int = 2,
    limit: int = 1_000_000,
    catalogue: str = CATALOGUE,
    stream: asyncio.Event | None = None,
):
    """Run ``workers`` gateways on free ports; none is left after the block.

    Args:
        folder: For the catalogue and the state.
        more: Options of ``wherry run gateway``.
        store: URL; None is the state's SQLite file.
        workers: How many.
        limit: Calls that alice may make.
        catalogue: What is sold; alice has a key.
        stream: Ends the answer to ``/stream``.
    """
    source, state = folder / "catalogue.yaml", folder / "state"
    source.write_text(catalogue.replace("LIMIT", str(limit)))
    state.mkdir(mode=0o700, exist_ok=True)
    listen = [f"--listen={part}=127.0.0.1:0" for part in ("gateway", "admin", "portal")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if store is not None:
        environment["WHERRY_STORE"] = store
    url = store or f"sqlite:{state / 'wherry.db'}"
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(opened(url))
        secret = pepper(state / "pepper")
        _, key = await keyring.create(kept, secret, "alice", now_ns=SystemClock().unix_ns())
        ends = stream or asyncio.Event()
        await stack.enter_async_context(shop(state / "gateway.sock", ends))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(WHERRY, "run", "gateway", str(source), "--state", str(state), *listen),
            *("--workers", str(workers), "-v", *more),
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        parent = Several(process)
        reading = asyncio.get_running_loop().create_task(parent.read())
        before: list[int] = []
        try:
            address = (await parent.says("gateway serves at", seconds=60)).rpartition(" ")[2]
            admin = (await parent.says("admin serves at")).rpartition(" ")[2]
            before = parent.workers()
            yield Crew(
                parent, kept, url, f"http://{address}", f"http://{admin}", key, state, source
            )
        finally:
            before += parent.workers()
            if process.returncode is None:
                process.terminate()
            try:
                async with asyncio.timeout(60):
                    await process.wait()
            except TimeoutError:
                process.kill()
                raise
            await reading
        assert process.returncode == 0, parent.lines
        assert not [pid for pid in before if alive(pid)]
