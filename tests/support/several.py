"""Runs `wherry run xds --workers N` as a user does, and plain discovery clients, for tests."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from support.house import alive, command_of, descendants
from support.members import WHERRY, until
from xds import wire
from xds.resource import CLUSTER
from xds.streams import SERVICE

METHOD = f"/{SERVICE}/DeltaAggregatedResources"
SIDECAR = {
    "role": "sidecar",
    "service": "web",
    "version": "v1",
    "app_port": 1,
    "inbound_port": 2,
    "outbound_port": 3,
}
OWN_CONNECTION = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
Request, Response = wire.MESSAGES["DeltaDiscoveryRequest"], wire.MESSAGES["DeltaDiscoveryResponse"]


@dataclass
class Several:
    """A Pilot of several processes.

    Attributes:
        address: Where it listens.
        lines: What it said so far.
    """

    process: asyncio.subprocess.Process
    address: str = ""
    lines: list[str] = field(default_factory=list)
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)
    _silent: bool = False

    def workers(self) -> list[int]:
        """Return the pids of the workers."""
        below = descendants(self.process.pid)
        return [pid for pid in below if "--worker" in command_of(pid) and alive(pid)]

    async def says(self, text: str, *, times: int = 1, seconds: float = 30) -> str:
        """Return the line that holds ``text`` for the so-manieth time."""
        async with asyncio.timeout(seconds), self._more:
            while len(found := [line for line in self.lines if text in line]) < times:
                assert not self._silent, self.lines
                await self._more.wait()
        return found[times - 1]

    async def replaced(self, times: int = 1) -> None:
        """Have every worker replaced."""
        self.process.send_signal(signal.SIGHUP)
        await self.says("workers replaced", times=times, seconds=50)

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._more:
                self.lines.append(line.decode().rstrip())
                self._more.notify_all()
        async with self._more:
            self._silent = True
            self._more.notify_all()


@asynccontextmanager
async def several(
    folder: Path, text: str, *more: str, workers: int = 2, port: int = 0
) -> AsyncIterator[Several]:
    """Run a Pilot of ``workers`` processes; none is left after the block."""
    source = folder / "mesh.yaml"
    source.write_text(text)
    state = ["--state", str(folder / "state"), "--listen", f"xds=127.0.0.1:{port}"]
    state += ["--listen", "pilot=127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(WHERRY, "run", "xds", str(source), *state, "--workers", str(workers), "-v", *more),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    pilot = Several(process)
    reading = asyncio.get_running_loop().create_task(pilot.read())
    before: list[int] = []
    try:
        pilot.address = (await pilot.says("xds serves at")).rpartition(" ")[2]
        before = pilot.workers()
        yield pilot
    finally:
        before += pilot.workers()
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise
        await reading
    assert not [pid for pid in before if alive(pid)]


@dataclass
class Client:
    """A Delta ADS client that comes back with what it holds, on a connection of its own.

    It asks for everything, and for one name that is not there: the server answers that at once,
    so that a first response comes whether anything has changed or not.

    Attributes:
        held: Versions by name.
        lost: When, in seconds of the loop, and how its streams ended.
        back: When each of its streams had its first answer.
        again: Resources that came in first answers although it held something already.
    """

    address: str
    node: str
    held: dict[str, str] = field(default_factory=dict)
    lost: list[tuple[float, grpc.StatusCode, str]] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    @property
    def here(self) -> bool:
        """Whether it is connected and had its first answer."""
        return bool(self.back) and (not self.lost or self.back[-1] > self.lost[-1][0])

    async def run(self) -> None:
        """Stay connected until cancelled."""
        loop = asyncio.get_running_loop()
        async with grpc.aio.insecure_channel(self.address, options=OWN_CONNECTION) as channel:
            while True:
                call = channel.stream_stream(METHOD)(wait_for_ready=True)
                try:
                    await self._talk(call)
                except grpc.aio.AioRpcError as error:
                    self.lost.append((loop.time(), error.code(), error.details() or ""))
                finally:
                    call.cancel()

    async def _talk(self, call: grpc.aio.StreamStreamCall) -> None:
        first = Request(
            type_url=CLUSTER,
            resource_names_subscribe=["*", "nothing"],
            initial_resource_versions=self.held,
        )
        first.node.id = self.node
        first.node.metadata.update(SIDECAR)
        await call.write(first.SerializeToString())
        response = await self._heard(call)
        assert "nothing" in response.removed_resources
        if self.held:
            self.again += [resource.name for resource in response.resources]
        self.back.append(asyncio.get_running_loop().time())
        while True:
            self.held |= {resource.name: resource.version for resource in response.resources}
            for name in response.removed_resources:
                self.held.pop(name, None)
            await call.write(
                Request(type_url=CLUSTER, response_nonce=response.nonce).SerializeToString()
            )
            response = await self._heard(call)

    async def _heard(self, call: grpc.aio.StreamStreamCall) -> object:
        raw = await call.read()
        if raw is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(
                await call.code(),
                call.initial_metadata(),
                call.trailing_metadata(),
                details=await call.details(),
            )
        return Response.FromString(raw)


async def all_here(made: list[Client]) -> None:
    """Return when every client is connected and had its first answer."""

    async def there() -> bool:
        return all(client.here for client in made)

    await until(there)


@asynccontextmanager
async def clients(address: str, count: int) -> AsyncIterator[list[Client]]:
    """Run ``count`` clients; enter when each had its first answer."""
    made = [Client(address, f"client-{number}") for number in range(count)]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(client.run()) for client in made]

    try:
        await all_here(made)
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks), tasks
