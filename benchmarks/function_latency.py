"""From call to answer through the Lambda API, for each kind of start, on each backend.

Beside it, in the same run: the plain handler called in this process, and ``moto_server``.

Run: python benchmarks/function_latency.py [BACKEND ...]   (process and qemu without arguments)
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from parts.functions import EMPTY, Lambda, served, spread
from parts.processes import closing
from parts.restores import medians, restored
from support.microvms import kitchen
from support.moto import installed

from faas.backends import chosen
from faas.setup import setup
from wherry.cli.settings import cache_folder

WARM = 400
FROZEN = 60
RESTORED = 10
CHANGES = 5
CONCURRENT = 50
FREEZE_AFTER = 0.02
TARGETS = {
    "process": {"warm": 2.0, "frozen": 25.0, "deploy": 1000.0},
    "qemu": {"warm": 10.0, "frozen": 25.0, "restored": 300.0, "deploy": 1000.0},
}
"""Milliseconds, medians: what the project asks of itself; a deploy is of changed code."""


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def plain() -> dict[str, float]:
    """Return what the handler takes when it is called as a function."""
    scope: dict[str, object] = {}
    exec(EMPTY, scope)
    taken = []
    for _ in range(WARM):
        began = time.perf_counter()
        scope["handler"]({}, None)  # type: ignore[operator]
        taken.append(time.perf_counter() - began)
    return spread(taken)


async def warm(api: Lambda, name: str) -> dict[str, float]:
    """Return calls one after the other, at once."""
    for _ in range(20):
        await api.invoke(name)
    return spread([(await api.invoke(name))[0] for _ in range(WARM)])


async def after_a_pause(api: Lambda, kind: str, count: int, pause: float) -> dict[str, float]:
    """Return calls that found their instance as ``kind``."""
    taken = []
    while len(taken) < count:
        await asyncio.sleep(pause)
        seconds, start, _ = await api.invoke("empty")
        if start == kind:
            taken.append(seconds)
    return spread(taken)


async def from_their_images(api: Lambda, kind: str) -> dict[str, float]:
    """Return first calls of functions whose instances have ended.

    Each is called once and again: one that is called more often gets instances ahead of calls.
    """
    names = [f"seldom{number}" for number in range(RESTORED // 2)]
    for name in names:
        await api.create(name, EMPTY)
    taken = []
    for name in names * 2:
        await asyncio.sleep(0.3)
        seconds, start, _ = await api.invoke(name)
        if start != kind:
            sys.exit(f"function {name}: was {start}, expected {kind}")
        taken.append(seconds)
    return spread(taken)


async def steps_of_a_restore(kind: str, folder: Path) -> Mapping[str, float]:
    """Return how long each step of a restore takes, without the Lambda API."""
    async with chosen(kind, cache=cache_folder(), run=folder) as backend, AsyncExitStack() as stack:
        async with backend.boot(kitchen(folder / "code"), lambda _: None) as vm:
            image = await backend.snapshot(vm)
        return medians((await restored(backend, [image] * RESTORED, stack))[1])


async def deployed(api: Lambda) -> tuple[float, list[float]]:
    """Return seconds from the upload to the first answer: of a new function, of changed code."""
    began = time.perf_counter()
    await api.create("fresh", EMPTY)
    await api.invoke("fresh")
    first = time.perf_counter() - began
    changed = []
    for number in range(CHANGES):
        source = EMPTY + f"\nNUMBER = {number}\n"
        began = time.perf_counter()
        await api.update("fresh", source)
        await api.invoke("fresh")
        changed.append(time.perf_counter() - began)
    return first, changed


async def at_once(api: Lambda) -> dict[str, float]:
    """Return `CONCURRENT` calls of one function that sleeps for a quarter of a second."""
    await api.create("sleepy", "import time\ndef handler(e, c):\n    time.sleep(0.25)\n")
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(api.invoke("sleepy")) for _ in range(CONCURRENT)]
    whole = time.perf_counter() - began
    return spread([call.result()[0] for call in calls]) | {"all_s": round(whole, 2)}


async def backend(kind: str, folder: Path) -> dict[str, Mapping[str, float]]:
    """Return every figure of one backend."""
    figures: dict[str, Mapping[str, float]] = {}
    say(f"{kind}: deploy")
    async with served(kind, folder / kind, freeze_after=FREEZE_AFTER) as api:
        first, changed = await deployed(api)
        figures["deploy"] = {"first_s": round(first, 2), **spread(changed)}
        await api.create("empty", EMPTY)
        say(f"{kind}: warm, frozen")
        figures["warm"] = await warm(api, "empty")
        figures["frozen"] = await after_a_pause(api, "frozen", FROZEN, FREEZE_AFTER * 5)
        say(f"{kind}: {CONCURRENT} at once")
        figures["at once"] = await at_once(api)
    start = "restored" if kind != "process" else "cold"
    say(f"{kind}: {start}")
    async with served(kind, folder / f"{kind}-2", keep_idle=0.0, freeze_after=0.0) as api:
        figures[start] = await from_their_images(api, start)
    if kind != "process":
        figures["a restore"] = await steps_of_a_restore(kind, folder)
    return figures


async def moto(folder: Path) -> dict[str, Mapping[str, float]]:
    """Return the same calls to ``moto_server``, which runs no code here: it has no Docker."""
    async with installed().server() as url, aiohttp.ClientSession() as client:
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/lambda/x"}
        async with client.post(
            f"{url}/moto-api/config", json={"lambda": {"use_docker": False}}
        ) as said:
            await said.read()
        client.headers.update(headers)
        iam = {"Action": "CreateRole", "RoleName": "bench", "AssumeRolePolicyDocument": "{}"}
        role = {"Authorization": headers["Authorization"].replace("lambda", "iam")}
        async with client.post(url, data=iam | {"Version": "2010-05-08"}, headers=role) as said:
            await said.read()
        api = Lambda(url, client, 0)
        await api.create("empty", EMPTY)
        return {"warm": await warm(api, "empty")}


async def main(kinds: Sequence[str]) -> None:
    """Measure and print."""
    figures: dict[str, Mapping[str, object]] = {"plain handler": {"call": plain()}}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        say("moto_server")
        figures["moto_server"] = await moto(folder)
        await setup(cache_folder(), progress=say)
        for kind in kinds:
            figures[kind] = await backend(kind, folder)
    ratios = {}
    for kind in kinds:
        for start, most in TARGETS.get(kind, {}).items():
            found = figures[kind][start]
            assert isinstance(found, dict)
            ratios[f"{kind} {start} of its target"] = round(found["p50_ms"] / most, 2)
    for name, found in figures.items():
        print(name)
        for start, values in found.items():
            print(f"  {start:10}", values)
    closing("function_latency", figures, "targets in milliseconds", ratios)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["process", "qemu"]))
