"""The whole of Wherry, measured: start, a change's way to traffic, the gateway's cost, functions.

Run: make bench, or python benchmarks/first_light.py
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import aiohttp
from parts.processes import ROOT, WHERRY, closing, cpu_seconds, free_port, house, started

from faas.backends import chosen
from faas.vm import Call, Launch, Vm
from wherry.cli.settings import cache_folder

CHANGES = 20
REQUESTS = 4000
CALLS = 30
ROUNDS = 5
FROZEN_AFTER = 0.3
"""Seconds without a call after which an instance is surely frozen."""


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


async def change_to_traffic(routes: Path, ingress: str) -> list[float]:
    """Return seconds from a changed weight to the first answer of the other version, each time."""
    text = await asyncio.to_thread(routes.read_text)
    sides = {
        "v1": text.replace("weight: 90", "weight: 1").replace("weight: 10", "weight: 0"),
        "v2": text.replace("weight: 90", "weight: 0"),
    }
    taken = []
    async with aiohttp.ClientSession() as client:

        async def version() -> str:
            async with client.get(f"{ingress}/entries") as answer:
                return answer.headers.get("x-entries-version", "none")

        async def until(wanted: str) -> None:
            same = 0
            while same < 20:
                same = same + 1 if await version() == wanted else 0

        for number in range(CHANGES + 1):
            wanted = "v2" if number % 2 else "v1"
            staged = routes.with_suffix(".staged")
            await asyncio.to_thread(staged.write_text, sides[wanted])
            began = time.perf_counter()
            await asyncio.to_thread(staged.replace, routes)
            while await version() != wanted:
                pass
            if number:
                taken.append(time.perf_counter() - began)
            await until(wanted)
    return taken


async def loaded(url: str, headers: Mapping[str, str], pid: int) -> float:
    """Return CPU microseconds of process ``pid`` for each of `REQUESTS` requests."""
    async with aiohttp.ClientSession(headers=headers) as client:

        async def caller(count: int) -> None:
            for _ in range(count):
                async with client.get(url) as answer:
                    await answer.read()
                    if answer.status != 200:
                        sys.exit(f"{url} answered {answer.status}")

        await caller(200)
        before = cpu_seconds(pid)
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(caller(REQUESTS // 8))
        return (cpu_seconds(pid) - before) / REQUESTS * 1e6


CATALOGUE = """
services: {web: {}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: bench}
spec:
  plans: [fast]
  routes: [{path: "/bench/{rest+}", to: {service: web}}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: fast}
spec: {rate: {requests: 1000000, per: 1s}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: bench}
spec: {subscriptions: [{product: bench, plan: fast}]}
"""


async def gateway_cost(folder: Path) -> dict[str, float]:
    """Return CPU microseconds per request of the gateway and of a bare aiohttp proxy."""
    source, state = folder / "catalogue.yaml", folder / "gateway"
    path = str(state / "gateway.sock")
    await asyncio.to_thread(source.write_text, CATALOGUE)
    key = await made_key(state, "bench")
    python, parts = sys.executable, ROOT / "benchmarks" / "parts"
    bare, ours = free_port(), free_port()
    address = f"127.0.0.1:{ours}"
    with (
        started(python, str(parts / "upstream.py"), path),
        started(python, str(parts / "bare_proxy.py"), path, str(bare), "asyncio") as proxy,
        started(
            python, "-m", "gateway", str(source), "--state", str(state),
            "--listen", f"gateway={address}",
        ) as gateway,
    ):  # fmt: skip
        for port in (bare, ours):
            await listening(port)
        rounds: dict[str, list[float]] = {"proxy": [], "gateway": []}
        for _ in range(3):
            rounds["proxy"].append(await loaded(f"http://127.0.0.1:{bare}/bench/x", {}, proxy.pid))
            rounds["gateway"].append(
                await loaded(f"http://{address}/bench/x", {"x-api-key": key}, gateway.pid)
            )
    return {name: statistics.median(costs) for name, costs in rounds.items()}


async def made_key(state: Path, consumer: str) -> str:
    """Return a new key."""
    made = await asyncio.create_subprocess_exec(
        WHERRY, "key", "create", consumer, env={"WHERRY_STATE": str(state)},
        stdout=PIPE, stderr=DEVNULL,
    )  # fmt: skip
    return (await made.communicate())[0].decode().strip()


async def listening(port: int) -> None:
    """Return when something listens on ``port``."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def through_the_gateway(gateway: str, key: str) -> dict[str, float]:
    """Return median milliseconds of a call of the function `list`, from key to usage record."""
    taken: dict[str, list[float]] = {"warm": [], "frozen": []}
    async with aiohttp.ClientSession(headers={"x-api-key": key}) as client:
        for kind, pause in (("warm", 0.0), ("frozen", FROZEN_AFTER)):
            for _ in range(CALLS):
                await asyncio.sleep(pause)
                began = time.perf_counter()
                async with client.get(f"{gateway}/guestbook/entries") as answer:
                    await answer.read()
                    if answer.status != 200:
                        sys.exit(f"the guestbook answered {answer.status}")
                taken[kind].append(time.perf_counter() - began)
    return medians(taken)


async def on_the_backend(kind: str, folder: Path) -> dict[str, float]:
    """Return median milliseconds from each kind of start to the answer of an empty function."""
    code = folder / f"code-{kind}"
    await asyncio.to_thread(code.mkdir)
    await asyncio.to_thread((code / "app.py").write_text, "def handler(e, c): return e\n")
    launch = Launch(
        function="bench", version="$LATEST", arn="arn:aws:lambda:us-east-1:000000000000:function:b",
        code=code, digest="0" * 64, handler="app.handler", runtime="python3.11", memory_mib=128,
        timeout=10.0, init_timeout=30.0, environment={}, egress=None,
    )  # fmt: skip
    taken: dict[str, list[float]] = {}

    async def called(start: str, vm: Vm, began: float) -> None:
        deadline = time.time_ns() // 10**6 + 10_000
        answer = await vm.invoke(Call(str(uuid4()), b"{}", deadline, launch.arn))
        if answer.error:
            sys.exit(f"the function answered {answer.error}")
        taken.setdefault(start, []).append(time.perf_counter() - began)

    async def warm_and_frozen(vm: Vm) -> None:
        for _ in range(CALLS // ROUNDS):
            await called("warm", vm, time.perf_counter())
        for _ in range(CALLS // ROUNDS):
            await vm.freeze()
            began = time.perf_counter()
            await vm.thaw()
            await called("frozen", vm, began)

    async with chosen(kind, cache=cache_folder(), run=folder) as backend:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            async with backend.boot(launch, lambda _: None) as vm:
                await called("cold", vm, began)
                if not backend.saves(launch):
                    await warm_and_frozen(vm)
            if not backend.saves(launch):
                continue
            async with backend.boot(launch, lambda _: None) as vm:
                image = await backend.snapshot(vm)
            began = time.perf_counter()
            async with backend.restore(image, lambda _: None) as vm:
                await called("restored", vm, began)
                await warm_and_frozen(vm)
            image.discard()
    return medians(taken)


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each list of seconds in milliseconds."""
    return {kind: round(statistics.median(times) * 1e3, 2) for kind, times in taken.items()}


def main() -> None:
    """Measure and print."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as name:
        folder = Path(name)
        source = folder / "guestbook"
        shutil.copytree(ROOT / "examples" / "guestbook", source)
        for backend in ("process", "qemu"):
            say(f"an empty function on the {backend} backend")
            latency = asyncio.run(on_the_backend(backend, folder))
            figures |= {f"{backend}_{kind}_ms": value for kind, value in latency.items()}
            say(f"wherry up with the {backend} backend")
            state = folder / f"state-{backend}"
            with house(source, state, "--backend", backend) as (_, ready):
                figures[f"{backend}_up_to_ready_first_s"] = round(ready, 2)
            with house(source, state, "--backend", backend) as (addresses, ready):
                figures[f"{backend}_up_to_ready_again_s"] = round(ready, 2)
                key = asyncio.run(made_key(state, "bob"))
                whole = asyncio.run(through_the_gateway(addresses["gateway"], key))
                figures |= {f"{backend}_api_call_{kind}_ms": v for kind, v in whole.items()}
                if backend == "process":
                    say(f"{CHANGES} changes of a weight")
                    taken = asyncio.run(
                        change_to_traffic(source / "routes.yaml", addresses["ingress"])
                    )
                    figures["change_to_traffic_median_ms"] = round(
                        statistics.median(taken) * 1e3, 1
                    )
                    figures["change_to_traffic_max_ms"] = round(max(taken) * 1e3, 1)
                    shutil.copy(ROOT / "examples/guestbook/routes.yaml", source / "routes.yaml")
        say("gateway beside a bare aiohttp proxy")
        costs = asyncio.run(gateway_cost(folder))
    figures |= {f"{name}_cpu_us_per_request": round(cost, 1) for name, cost in costs.items()}
    ratio = round(costs["gateway"] / costs["proxy"], 2)
    closing("first_light", figures, "bare aiohttp proxy", {"gateway_to_proxy_cpu": ratio})


if __name__ == "__main__":
    main()
