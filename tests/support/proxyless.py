"""gRPC servers of the mesh without an Envoy, and clients that dial them by name, for tests."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health as grpc_health
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from support.members import ended, until
from wherry.serve import Address
from xds.bootstrap import grpc_bootstrap
from xds.heartbeat import deregister, register
from xds.workload import Workload

PYTHON_CLIENT = (sys.executable, str(Path(__file__).with_name("grpc_client.py")))


class _Says(grpc.GenericRpcHandler):
    """Answers every call, whatever its method, with one word."""

    def __init__(self, word: str) -> None:
        self._word = word.encode()

    def service(self, handler_call_details):
        del handler_call_details

        async def answer(_request, _context):
            return self._word

        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass
class Backend:
    """A gRPC server that answers with a word, and its registration."""

    workload: Workload
    server: grpc.aio.Server
    channel: grpc.aio.Channel

    async def leave(self) -> None:
        """Deregister, and go on serving who has not heard of it yet."""
        assert await deregister(self.channel, self.workload)

    async def stop(self) -> None:
        """End the server when the calls that it has are answered."""
        await self.server.stop(5)


class Backends:
    """Starts gRPC servers and registers them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._servers: list[grpc.aio.Server] = []

    async def add(
        self,
        word: str,
        *services: str,
        version: str = "v1",
        health: grpc_health.aio.HealthServicer | None = None,
    ) -> Backend:
        """Start a server that answers with ``word``; register it for each of ``services``."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        if health is not None:
            add_HealthServicer_to_server(health, server)
        server.add_generic_rpc_handlers((_Says(word),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._servers.append(server)
        workloads = [Workload(word, name, version, "127.0.0.1", port) for name in services]
        for workload in workloads:
            await register(self._channel, workload, 300)
        return Backend(workloads[0], server, self._channel)

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop(0)


@asynccontextmanager
async def backends(pilot: Address) -> AsyncIterator[Backends]:
    async with grpc.aio.insecure_channel(str(pilot)) as channel:
        made = Backends(channel)
        try:
            yield made
        finally:
            await made.stop()


@dataclass
class Client:
    """A process that dials what it is told."""

    process: asyncio.subprocess.Process

    async def calls(self, target: str, count: int = 1, **how: object) -> Counter[str]:
        """Make so many calls; return how they ended: what was answered, or ``CODE: details``."""
        answer = await self._asks(target=f"xds:///{target}", calls=count, **how)
        return Counter(answer["ended"])

    async def timed(self, target: str, **how: object) -> tuple[str, float]:
        """Make one call; return how it ended and after how many seconds."""
        answer = await self._asks(target=f"xds:///{target}", calls=1, **how)
        return next(iter(answer["ended"])), answer["seconds"]

    @asynccontextmanager
    async def flow(self, target: str, workers: int = 3) -> AsyncIterator["Flow"]:
        """Make calls without a pause until the block ends."""
        await self._asks(target=f"xds:///{target}", flow=workers)
        flow = Flow(self)
        await flow.more(20)
        yield flow
        flow.ended = Counter((await self._asks(seen="stop"))["ended"])

    async def _asks(self, **order: object) -> Mapping:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(40):
            line = await self.process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)


class Flow:
    """Calls that never pause, and how each of them ended."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.ended: Counter[str] = Counter()

    async def seen(self) -> Counter[str]:
        """Return how the calls have ended so far."""
        self.ended = Counter((await self._client._asks(seen="now"))["ended"])
        return self.ended

    async def more(self, count: int, word: str | None = None) -> None:
        """Return when so many more have ended, or have ended in ``word``."""

        async def total() -> int:
            seen = await self.seen()
            return seen.total() if word is None else seen[word]

        wanted = await total() + count

        async def enough() -> bool:
            return await total() >= wanted

        await until(enough)


@asynccontextmanager
async def client(
    pilot: Address,
    node: str = "grpc~test",
    *,
    service: str = "",
    program: Sequence[str] = PYTHON_CLIENT,
    cwd: Path | None = None,
    **environment: str,
) -> AsyncIterator[Client]:
    """Start a program that gets its configuration from ``pilot``."""
    bootstrap = json.dumps(grpc_bootstrap(node, xds=(pilot.host, pilot.port), service=service))
    process = await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap, **environment},
    )
    try:
        yield Client(process)
    finally:
        await ended(process)


def split(first: str, first_weight: int, second: str, second_weight: int, parent: str) -> str:
    """Return a route that splits the calls to ``parent``."""
    shares = ((first, first_weight), (second, second_weight))
    to = ", ".join(f"{{name: {name}, weight: {weight}}}" for name, weight in shares)
    return ROUTE % (parent, parent, f"{{backendRefs: [{to}]}}")


ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-%s}
spec: {parentRefs: [{kind: Service, name: %s}], rules: [%s]}
"""
