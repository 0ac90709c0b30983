"""Runs a Pilot in this process and members of its mesh as processes of their own, for tests."""

import asyncio
import contextlib
import os
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import xds.app
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.serve import Address
from wherry.store import Store, opened

WHERRY = str(Path(sysconfig.get_path("scripts")) / "wherry")

ECHO = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NOTES = os.environ.get("NOTES")

def note(text):
    if NOTES:
        with open(NOTES, "a") as file:
            file.write(text + "\\n")

def got(number, frame):
    note(signal.Signals(number).name)
    if number == signal.SIGTERM:
        os._exit(0)

for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, got)

class Handler(BaseHTTPRequestHandler):
    wbufsize = -1
    protocol_version = "HTTP/1.1"
    def answer(self):
        size = int(self.headers.get("content-length") or 0)
        self.rfile.read(size)
        if "slow" in self.path:
            time.sleep(0.05)
        said = {
            "service": os.environ["WHERRY_SERVICE"], "version": os.environ["WHERRY_VERSION"],
            "path": self.path, "method": self.command, "pid": os.getpid(),
            "headers": {k.lower(): ",".join(self.headers.get_all(k)) for k in self.headers},
            "proxy": os.environ["HTTP_PROXY"],
        }
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do_PUT = do_DELETE = answer
    def log_message(self, *arguments):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

note("started %d" % os.getpid())
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
"""A program of the standard library alone, which starts fast and says what reached it."""


@dataclass
class Mesh:
    """A Pilot and what it serves.

    Attributes:
        echo: A program that says what reached it.
        run: Short-named folder.
    """

    worlds: Worlds
    store: Store
    run: Path
    echo: Path
    pilot: xds.app.Running = field(init=False)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    _served: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def serve(self, address: Address) -> None:
        """Start the Pilot."""
        settings = xds.app.Settings(address)
        self.pilot = await self._served.enter_async_context(
            xds.app.running(settings, store=self.store, worlds=self.worlds, clock=SystemClock())
        )

    async def stop(self) -> None:
        """Stop the Pilot."""
        await self._served.aclose()

    async def become(self, text: str) -> None:
        """Serve this configuration; return when every Envoy holds it."""
        await self.worlds.replace(assemble({Path("mesh.yaml"): text}))
        await self.settled()

    async def settled(self) -> None:
        """Return when every Envoy holds what it should; none may have refused anything."""
        async with asyncio.timeout(20):
            await self.pilot.settled()
        types = [t for stream in self.pilot.streams() for t in stream.types]
        assert not [t.error for t in types if t.error]

    async def members(self, service: str = "") -> list[str]:
        return sorted(await self.store.list(f"workload/{service}"))

    async def joined(self, count: int, service: str = "") -> None:
        """Return when so many are registered and every Envoy knows."""

        async def there() -> bool:
            return len(await self.members(service)) == count

        await until(there)
        await self.settled()

    async def sidecar(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start ``wherry sidecar`` with these arguments."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            WHERRY,
            "sidecar",
            "--xds",
            str(self.pilot.address),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self.processes.append(process)
        return process

    async def program(self, service: str, **environment: str) -> asyncio.subprocess.Process:
        """Start the echo program as a member."""
        words = ["--service", service, "--port", "0", "--", sys.executable, str(self.echo)]
        return await self.sidecar(*words, **environment)


@asynccontextmanager
async def mesh(folder: Path, text: str) -> AsyncIterator[Mesh]:
    """Run a Pilot that serves ``text``; every process that was started ends with the block."""
    echo = folder / "echo.py"
    echo.write_text(ECHO)
    worlds = Worlds(assemble({Path("mesh.yaml"): text}))
    async with opened("memory:") as store:
        made = Mesh(worlds, store, folder, echo)
        await made.serve(Address())
        try:
            yield made
        finally:
            for process in made.processes:
                await ended(process)
            await made.stop()


async def ended(process: asyncio.subprocess.Process, number: int = signal.SIGTERM) -> int:
    """Send a signal and return the exit status; SIGKILL what has not ended after ten seconds."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        async with asyncio.timeout(10):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Return when ``holds`` does."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.02)
