"""The whole of Wherry, measured: start, a change's way to traffic, the gateway's cost, functions.

Run: make bench, or python benchmarks/first_light.py
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from parts.processes import ROOT, WHERRY, closing, cpu_seconds, free_port, house, started

CHANGES = 20
REQUESTS = 4000
CALLS = 20


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
    made = await asyncio.create_subprocess_exec(
        WHERRY, "key", "create", "bench", env={"WHERRY_STATE": str(state)}, stdout=PIPE
    )
    key = (await made.communicate())[0].decode().strip()
    python, parts = sys.executable, str(ROOT / "benchmarks/parts/upstream.py")
    bare, ours = free_port(), free_port()
    address = f"127.0.0.1:{ours}"
    with (
        started(python, parts, "upstream", path),
        started(python, parts, "proxy", path, str(bare)) as proxy,
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


async def function_latency(lambda_url: str) -> dict[str, float]:
    """Return median milliseconds of an invocation by how its instance began."""
    url = f"{lambda_url}/2015-03-31/functions/list/invocations"
    taken: dict[str, list[float]] = {}
    async with aiohttp.ClientSession() as client:

        async def call() -> None:
            began = time.perf_counter()
            async with client.post(url, data=b"{}") as answer:
                await answer.read()
                if answer.status != 200 or "X-Amz-Function-Error" in answer.headers:
                    sys.exit(f"invocation failed: {answer.status} {await answer.text()}")
                kind = answer.headers["X-Wherry-Start"]
            taken.setdefault(kind, []).append((time.perf_counter() - began) * 1e3)

        for _ in range(CALLS):
            await call()  # right after each other: warm
        for _ in range(CALLS):
            await asyncio.sleep(0.3)  # longer than an instance runs on: frozen
            await call()
        for size in range(2, 9):  # more at once than there are instances: restored or cold
            async with asyncio.TaskGroup() as group:
                for _ in range(size):
                    group.create_task(call())
    return {kind: round(statistics.median(times), 2) for kind, times in taken.items()}


def main() -> None:
    """Measure and print."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as name:
        folder = Path(name)
        source = folder / "guestbook"
        shutil.copytree(ROOT / "examples" / "guestbook", source)
        for backend in ("process", "qemu"):
            say(f"wherry up with the {backend} backend")
            with house(source, folder / backend, "--backend", backend) as (addresses, ready):
                figures[f"up_to_ready_first_{backend}_s"] = round(ready, 2)
                latency = asyncio.run(function_latency(addresses["lambda"]))
                figures |= {f"function_{k}_{backend}_ms": v for k, v in latency.items()}
            with house(source, folder / backend, "--backend", backend) as (addresses, ready):
                figures[f"up_to_ready_again_{backend}_s"] = round(ready, 2)
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
