"""Requests at a fixed rate through a real Envoy while all that is behind it changes.

A gateway's Envoy is told by `python -m xds`, which reads files and takes registrations. Meanwhile
backends are swapped (the new one registers, the old one leaves, and ends after Wherry's own grace),
routes are edited, the service gets another name, and the Pilot is ended and started again. Every
change but a restart is seen in traffic before the next begins. Nothing but 2xx may come back.

Run: python benchmarks/xds_swaps.py [--quick]
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
from parts.control import Child, child
from parts.processes import ROOT, closing, free_port

from wherry.cli.envoys import Envoy, serving
from wherry.cli.sidecar import DRAIN
from wherry.serve import Address
from xds.heartbeat import deregister, register
from xds.workload import Workload

QUICK = "--quick" in sys.argv
RATE = 500.0
SWAPS, EDITS, RENAMES, RESTARTS = (20, 6, 4, 2) if QUICK else (200, 50, 20, 10)
INSTANCES = 2
"""Backends that serve at the same time."""
WORK = 0.005
"""Seconds that a request takes, so that some are under way at every moment."""
SPACING, REST = 0.1, 2.0
"""Seconds between two swaps, and before and after all changes."""
SECONDS = 20.0
"""Longest that a change may take to reach traffic."""
TTL_SECONDS = 300
LOOK = 0.02
HOST = "web.example"

MESH = """
apiVersion: v1
kind: Service
metadata: {{name: web-{name}}}
spec: {{selector: {{app: web}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: wherry
  listeners: [{{name: http, port: 8080, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{host}]
  rules:
  - backendRefs: [{{name: web-{name}}}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {{set: [{{name: x-turn, value: "{turn}"}}]}}
"""


@dataclass
class Site:
    """What is under load.

    Attributes:
        folder: Short-named, for everything.
        listener: Where the Envoy listens.
        xds: Where the Pilot listens, also after a restart.
        backends: The backends' process.
        running: Instances, oldest first.
    """

    folder: Path
    listener: int
    xds: int
    backends: Child
    running: list[Workload] = field(default_factory=list)
    turn: int = 0
    name: int = 0
    _count: int = 0

    def write(self) -> None:
        """Replace the configuration."""
        staged = self.folder / "mesh.staged"
        staged.write_text(MESH.format(host=HOST, name=self.name, turn=self.turn))
        staged.replace(self.folder / "mesh" / "mesh.yaml")

    async def start(self, channel: grpc.aio.Channel) -> str:
        """Add an instance and return its answer."""
        self._count += 1
        text = f"instance-{self._count}"
        port = self.backends.ask("start", text=text)
        workload = Workload(text, "web", "v1", "127.0.0.1", port)
        await register(channel, workload, TTL_SECONDS)
        self.running.append(workload)
        return text

    async def end(self, channel: grpc.aio.Channel) -> None:
        """Take the oldest instance out, and end it after the grace that a sidecar gives."""
        workload = self.running.pop(0)
        await deregister(channel, workload)
        await asyncio.sleep(DRAIN)
        self.backends.ask("stop", port=workload.port)

    async def until(self, *, turn: str | None = None, text: str | None = None) -> None:
        """Return when an answer carries this turn, or comes from this instance."""
        url = f"http://127.0.0.1:{self.listener}/probe"
        async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as client:
            while True:
                async with client.get(url, headers={"Host": HOST}) as answer:
                    body = await answer.text()
                    if (turn or text) in {answer.headers.get("x-turn"), body}:
                        return
                await asyncio.sleep(LOOK)

    @asynccontextmanager
    async def pilot(self) -> AsyncIterator[None]:
        """Run a Pilot as a process of its own; enter when it listens, leave when it has ended."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "xds", str(self.folder / "mesh"),
            "--state", str(self.folder / "state"), "--listen", f"xds=127.0.0.1:{self.xds}",
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await listening(self.xds)
            yield
        finally:
            process.terminate()
            async with asyncio.timeout(SECONDS):
                await process.wait()

    async def swap(self) -> None:
        """Replace instances, one after the other."""
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{self.xds}") as channel,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(SWAPS):
                text = await self.start(channel)
                group.create_task(self.end(channel))
                await self.until(text=text)
                await asyncio.sleep(SPACING)

    async def edit(self) -> None:
        """Change the route."""
        for _ in range(EDITS):
            self.turn += 1
            self.write()
            await self.until(turn=str(self.turn))

    async def rename(self) -> None:
        """Give the service another name, in the route as well."""
        for _ in range(RENAMES):
            self.turn += 1
            self.name += 1
            self.write()
            await self.until(turn=str(self.turn))

    async def connected(self, spec: Envoy, *, wanted: bool) -> None:
        """Return when the Envoy has, or has lost, its Pilot."""
        connector = aiohttp.UnixConnector(str(spec.admin))
        text = f"control_plane.connected_state: {int(wanted)}"
        async with asyncio.timeout(SECONDS), aiohttp.ClientSession(connector=connector) as client:
            while True:
                async with client.get("http://envoy/stats?filter=control_plane") as answer:
                    if text in await answer.text():
                        return
                await asyncio.sleep(LOOK)


async def listening(port: int) -> None:
    """Return when something listens on ``port``."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(LOOK)
            else:
                writer.close()
                return


async def stats(spec: Envoy) -> dict[str, int]:
    """Return what the Envoy counted of failures and retries, where it is not zero."""
    wanted = (
        "upstream_rq_retry|upstream_cx_connect_fail|upstream_rq_.*reset|5xx|no_route|no_cluster"
    )
    connector = aiohttp.UnixConnector(str(spec.admin))
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.get("http://envoy/stats", params={"filter": wanted}) as answer,
    ):
        pairs = [line.rsplit(": ", 1) for line in (await answer.text()).splitlines() if ":" in line]
    return {name: int(value) for name, value in pairs if value.isdigit() and value != "0"}


async def measure(folder: Path) -> dict[str, Any]:
    """Run every phase under load and return what the load saw."""
    (folder / "mesh").mkdir()
    async with AsyncExitStack() as stack:
        backends = stack.enter_context(child("http_backend", WORK))
        load = stack.enter_context(child("http_load"))
        site = Site(folder, free_port(), free_port(), backends)
        site.write()
        served = await stack.enter_async_context(AsyncExitStack())
        await served.enter_async_context(site.pilot())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.xds}") as channel:
            texts = [await site.start(channel) for _ in range(INSTANCES)]
        metadata = {"role": "gateway", "gateway": "edge", "ports": {"8080": site.listener}}
        spec = Envoy("swaps", metadata, Address(port=site.xds), folder)
        await stack.enter_async_context(serving(spec))
        await site.until(text=texts[-1])
        load.ask("begin", port=site.listener, host=HOST, rate=RATE, phase="rest")
        await asyncio.sleep(REST)
        for name, work in (("swaps", site.swap), ("routes", site.edit), ("renames", site.rename)):
            load.ask("phase", name=name)
            say(name)
            await work()
        load.ask("phase", name="restarts")
        for number in range(RESTARTS):
            say(f"restart {number + 1} of {RESTARTS}")
            await served.aclose()
            await site.connected(spec, wanted=False)
            await served.enter_async_context(site.pilot())
            await site.connected(spec, wanted=True)
            site.turn += 1
            site.write()
            await site.until(turn=str(site.turn))
        load.ask("phase", name="rest")
        await asyncio.sleep(REST)
        return {**load.ask("end"), "envoy": await stats(spec)}


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print; anything but 2xx is an error."""
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as folder:
        found = asyncio.run(measure(Path(folder)))
    for example in found.pop("examples"):
        say(f"failed: {example}")
    phases = found["phases"]
    sent, failed = (sum(p[what] for p in phases.values()) for what in ("sent", "failures"))
    changes = {"swaps": SWAPS, "routes": EDITS, "renames": RENAMES, "restarts": RESTARTS}
    figures = {"rate": RATE, "changes": changes, "failures": failed, **found}
    closing("xds_swaps", figures, "requests sent", {"failures_to_requests": failed / sent})
    if failed:
        sys.exit(f"{failed} of {sent} requests failed, expected none")


if __name__ == "__main__":
    main()
