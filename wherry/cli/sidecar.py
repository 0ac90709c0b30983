"""A program and the Envoy beside it, registered while both serve."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wherry.cli.envoys import POLL, Envoy, free_port, kept, serving
from wherry.process import Command, found, running
from wherry.process import envoy as found_envoy
from wherry.serve import Address, bound, reserved
from xds.bootstrap import FLUSH
from xds.registrations import Workload, heartbeat

logger = logging.getLogger(__name__)

FORWARDED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
"""Signals that are passed on to the program as they are."""

OWN = "up-"
"""Begins the ids of programs that `wherry up` runs, which never outlive it."""

LAST_REPORTS = 2 * FLUSH
"""Seconds between the program's end and its Envoy's, which reports the last requests in them."""

DRAIN = 0.5
"""Seconds between taking the program out of the mesh and ending it."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A program to run as a member of the mesh.

    Attributes:
        service: The service that it serves.
        version: Its version label.
        argv: Program and arguments.
        port: Where it listens on loopback; 0 chooses one and tells it by ``PORT``.
        environment: More variables for it.
        folder: Where it runs.
        log: File for its output; None passes it on to ours.
        xds: Where the Pilot listens.
        address: IP address under which other Envoys reach this one.
        run: Short-named folder for the Envoy's files.
    """

    service: str
    version: str
    argv: Sequence[str]
    port: int
    xds: Address
    run: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    log: Path | None = None
    address: str = "127.0.0.1"


class Presence:
    """Whether the program and its Envoy both serve, so that requests may come."""

    def __init__(self) -> None:
        self._up: set[str] = set()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def of(self, part: str) -> AsyncIterator[None]:
        """Count ``part`` as serving for the length of the block."""
        await self._set(part, up=True)
        try:
            yield
        finally:
            await asyncio.shield(self._set(part, up=False))

    async def _set(self, part: str, *, up: bool) -> None:
        async with self._changed:
            (self._up.add if up else self._up.discard)(part)
            self._changed.notify_all()

    async def until(self, *, both: bool) -> None:
        """Return when both parts serve, or with ``both`` false when one does not."""
        async with self._changed:
            await self._changed.wait_for(lambda: (len(self._up) == 2) is both)  # noqa: PLR2004


async def run(beside: Beside, *, again: bool) -> int:
    """Run the program and its Envoy until the program ends; an Envoy that dies comes back.

    Args:
        beside: What to run.
        again: Start the program again when it ends, until cancelled.

    Raises:
        MissingBinary: Envoy is not installed, or without ``again`` there is no such program.
        BadWorkload: The service, the version or the address is of no form that can register.

    Returns:
        The program's exit status; 128 + N after signal N.
    """
    found_envoy()
    async with AsyncExitStack() as stack:
        inbound = stack.enter_context(reserved("sidecar", Address(beside.address)))
        outbound = stack.enter_context(reserved("sidecar", Address()))
        port = beside.port or free_port()
        instance = f"{OWN if again else ''}{secrets.token_hex(4)}"
        node = f"sidecar~{beside.service}-{beside.version}~{instance}"
        metadata = {
            "role": "sidecar",
            "service": beside.service,
            "version": beside.version,
            "app_port": port,
            "inbound_port": bound(inbound).port,
            "outbound_port": bound(outbound).port,
            "address": beside.address,
        }
        envoy = Envoy(node, metadata, beside.xds, beside.run)
        workload = Workload(
            id=instance,
            service=beside.service,
            version=beside.version,
            address=beside.address,
            port=bound(inbound).port,
        )
        presence = Presence()
        program = _Program(_command(beside, port, bound(outbound)), port, presence)
        if not again:
            found(program.command)
        async with asyncio.TaskGroup() as group:
            announced = group.create_task(_announced(beside, workload, presence), name="presence")
            proxied = group.create_task(kept(node, lambda: _proxy(envoy, presence)), name=node)
            life = kept(program.command.name, program.life) if again else program.once()
            lived = group.create_task(life, name=program.command.name)
            try:
                await asyncio.wait([lived])
            finally:
                await _left([announced, lived, proxied])
    return lived.result() or 0


async def _left(tasks: Sequence[asyncio.Task[None] | asyncio.Task[int | None]]) -> None:
    """End the tasks in order: out of the mesh first, then the program, at last its Envoy."""
    announced, lived, proxied = tasks
    for task in tasks:
        if task is proxied:
            await asyncio.sleep(LAST_REPORTS)
        task.cancel()
        await asyncio.wait([task])
        if task is announced and not lived.done():
            await asyncio.sleep(DRAIN)


async def alone(beside: Beside) -> int:
    """Run ``beside`` until its program ends or SIGTERM or SIGINT ends both; return the status."""
    loop = asyncio.get_running_loop()
    told: list[signal.Signals] = []
    async with asyncio.TaskGroup() as group:
        life = group.create_task(run(beside, again=False), name="sidecar")
        looks = group.create_task(_look_for(beside.xds), name="pilot")

        def stop(number: signal.Signals) -> None:
            told.append(number)
            life.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        await asyncio.wait([life])
        looks.cancel()
    return 128 + told[0] if life.cancelled() else life.result()


async def _look_for(pilot: Address) -> None:
    """Say once when no Pilot answers; the Envoy goes on asking by itself."""
    if not await _accepts(pilot):
        logger.warning(
            "no Pilot at %s, expected one (wherry up, or --xds HOST:PORT); "
            "the program runs, and joins the mesh when the Pilot answers",
            pilot,
        )


def _command(beside: Beside, port: int, outbound: Address) -> Command:
    environment = {
        **os.environ,
        "PORT": str(port),
        "HTTP_PROXY": outbound.url,
        "http_proxy": outbound.url,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "WHERRY_SERVICE": beside.service,
        "WHERRY_VERSION": beside.version,
        **beside.environment,
    }
    name = f"{beside.service}@{beside.version}"
    return Command(name, beside.argv, environment, beside.folder, beside.log)


@dataclass(frozen=True, slots=True)
class _Program:
    command: Command
    port: int
    presence: Presence

    async def life(self) -> None:
        """Run the program once; wait for its end."""
        async with running(self.command) as process:
            await self._live(process)

    async def once(self) -> int:
        """Run the program once, passing signals on; return its exit status."""
        async with running(self.command) as process:
            loop = asyncio.get_running_loop()
            for number in FORWARDED:
                loop.add_signal_handler(number, _pass_on, process, number)
            try:
                await self._live(process)
            finally:
                for number in FORWARDED:
                    loop.remove_signal_handler(number)
        code = process.returncode or 0
        return code if code >= 0 else 128 - code

    async def _live(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.TaskGroup() as group:
            listens = group.create_task(self._serves(), name=f"{self.command.name}/listens")
            await process.wait()
            listens.cancel()

    async def _serves(self) -> None:
        while not await _accepts(Address(port=self.port)):  # noqa: ASYNC110 (nothing tells it)
            await asyncio.sleep(POLL)
        async with self.presence.of("program"):
            await asyncio.Event().wait()


async def _accepts(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _pass_on(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


async def _proxy(envoy: Envoy, presence: Presence) -> None:
    async with serving(envoy) as process, presence.of("envoy"):
        await process.wait()


async def _announced(beside: Beside, workload: Workload, presence: Presence) -> None:
    while True:
        await presence.until(both=True)
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(heartbeat(str(beside.xds), workload), name="heartbeat")
            await presence.until(both=False)
            beat.cancel()
