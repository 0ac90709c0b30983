"""What a sidecar saves that says whom it calls: bytes sent to it, and the memory of its Envoy.

Run: python benchmarks/xds_scoping.py [--quick]
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import aiohttp
from parts.processes import closing, free_port

import xds.app
from wherry.cli.envoys import Envoy, serving
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.serve import Address
from wherry.store import opened
from xds.registrations import Registry
from xds.workload import Workload

QUICK = "--quick" in sys.argv
SERVICES = 50 if QUICK else 500
WORKLOADS = 4
"""Workloads of each service."""
CALLS = {"everything": None, "ten": 10, "two": 2, "nothing": 0}
"""Sidecars by name, and how many services each of them may call."""
TTL_SECONDS = 300


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def written() -> str:
    """Return the mesh in the short form."""
    services = {f"s{number}": {} for number in range(SERVICES)}
    callers = {
        name: {} if count is None else {"calls": [f"s{number}" for number in range(count)]}
        for name, count in CALLS.items()
    }
    return json.dumps({"services": services | callers})


async def registered(registry: Registry) -> None:
    """Put workloads behind every service."""
    for number in range(SERVICES):
        for each in range(WORKLOADS):
            workload = Workload(f"i{each}", f"s{number}", "v1", f"127.0.{each}.1", 10_000 + number)
            await registry.register(workload, TTL_SECONDS)


async def told(spec: Envoy, path: str) -> str:
    """Return an answer of an Envoy's admin interface."""
    connector = aiohttp.UnixConnector(str(spec.admin))
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.get(f"http://envoy{path}") as answer,
    ):
        return await answer.text()


async def sidecar(name: str, pilot: xds.app.Running, folder: Path) -> dict[str, float]:
    """Return what a sidecar of service ``name`` was sent and what its Envoy holds."""
    metadata = {
        "role": "sidecar",
        "service": name,
        "version": "v1",
        "app_port": free_port(),
        "inbound_port": free_port(),
        "outbound_port": free_port(),
    }
    spec = Envoy(f"sidecar~{name}", metadata, pilot.address, folder)
    async with serving(spec), asyncio.timeout(60):
        await pilot.settled()
        [stream] = pilot.streams()
        memory = json.loads(await told(spec, "/memory"))
        clusters = await told(spec, "/stats?filter=cluster_manager.active_clusters")
        return {
            "sent_kib": round(stream.sent_bytes / 1024, 1),
            "envoy_allocated_mib": round(int(memory["allocated"]) / 2**20, 2),
            "envoy_clusters": int(clusters.split(":")[1]),
        }


async def measured(folder: Path) -> dict[str, dict[str, float]]:
    """Return the figures of each sidecar."""
    clock = SystemClock()
    worlds = Worlds(assemble({Path("mesh.yaml"): written()}))
    found = {}
    async with opened("memory:") as store:
        await registered(Registry(store, clock))
        settings = xds.app.Settings(Address())
        async with xds.app.running(settings, store=store, worlds=worlds, clock=clock) as pilot:
            for name in CALLS:
                found[name] = await sidecar(name, pilot, folder)
                say(f"{name}: {found[name]}")
                async with asyncio.timeout(60):
                    while pilot.streams():
                        await asyncio.sleep(0.01)
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as folder:
        found = asyncio.run(measured(Path(folder)))
    everything, nothing = found["everything"], found["nothing"]["envoy_allocated_mib"]
    ratios = {}
    for name in ("ten", "two"):
        each = found[name]
        ratios[f"{name}_bytes"] = each["sent_kib"] / everything["sent_kib"]
        ratios[f"{name}_memory_beyond_none"] = (each["envoy_allocated_mib"] - nothing) / (
            everything["envoy_allocated_mib"] - nothing
        )
    figures = {"services": SERVICES, "workloads": SERVICES * WORKLOADS, **found}
    rounded = {name: round(ratio, 4) for name, ratio in ratios.items()}
    closing("xds_scoping", figures, "the sidecar that may call everything", rounded)


if __name__ == "__main__":
    main()
