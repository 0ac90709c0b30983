"""What a call through the API gateway costs, beside a bare aiohttp proxy and express-gateway.

Each has one core for itself; load and upstream are on the other. Ours checks a key, a rate and
a quota, and records usage in its journal on the disk; express-gateway checks a key and a rate;
the proxy does nothing but pass on. The lean door is ours without aiohttp, to show what that costs.

Run: python benchmarks/gateway_cost.py [--seconds S] [--rounds N] [--keys N] [--no-express]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from parts.express_gateway import express_gateway, installed
from parts.processes import ROOT, closing, cpu_seconds, free_port, started

from wherry.cli.settings import cache_folder

MEASURED, OTHER = 0, 1
"""The core of what is measured, and that of everything else."""

CONNECTIONS = 16
PARTS = ROOT / "benchmarks" / "parts"

CATALOGUE = """
services: {{web: {{}}}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {{name: bench}}
spec:
  plans: [fast]
  routes:
  - {{path: "/bench/{{rest+}}", to: {{service: web}}}}
{routes}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {{name: fast}}
spec:
  rate: {{requests: 1000000, per: 1s}}
  quotas: [{{name: monthly, limit: 1000000000000}}]
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: bench}}
spec:
  subscriptions: [{{product: bench, plan: fast}}]
"""


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


@dataclass
class Measured:
    """A program under load.

    Attributes:
        process: It.
        port: Where it listens.
        key: What callers show.
    """

    process: subprocess.Popen[str]
    port: int
    key: str

    def load(
        self, seconds: float, *, connections: int = CONNECTIONS, pause: float = 0.0
    ) -> Mapping[str, float]:
        """Return what so many seconds of load came to, with ``cpu_us`` for each request."""
        pinned(self.process.pid, MEASURED)
        request = (
            f"GET /bench/x HTTP/1.1\r\nHost: localhost\r\nx-api-key: {self.key}\r\n"
            "Accept: */*\r\nUser-Agent: bench\r\n\r\n"
        )
        argv = ["taskset", "-c", str(OTHER), sys.executable, str(PARTS / "closed_loop.py")]
        before = cpu_seconds(self.process.pid)
        done = subprocess.run(
            [*argv, str(self.port), str(seconds), str(connections), str(pause)],
            input=request.encode(),
            capture_output=True,
            check=True,
        )
        spent = cpu_seconds(self.process.pid) - before
        found: dict[str, float] = json.loads(done.stdout)
        if found["bad"]:
            sys.exit(f"{found['bad']:.0f} of {found['requests']:.0f} answers were not 200")
        return {**found, "cpu_us": spent / found["requests"] * 1e6}


def pinned(pid: int, core: int) -> None:
    """Let every thread of a process run on one core only."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


@contextmanager
def proxy(mesh: str, loop: str) -> Iterator[Measured]:
    """Run the bare aiohttp proxy."""
    port = free_port()
    with started(sys.executable, str(PARTS / "bare_proxy.py"), mesh, str(port), loop) as process:
        line = process.stdout.readline() if process.stdout else ""
        yield Measured(process, port, line.strip())


@contextmanager
def gateway(
    folder: Path, mesh: str, loop: str, *, routes: int = 1, keys: int = 1, door: str = ""
) -> Iterator[Measured]:
    """Run our gateway with so many routes and keys, and the door that is named."""
    folder.mkdir()
    catalogue, port = folder / "catalogue.yaml", free_port()
    more = "\n".join(
        f'  - {{path: "/bench{n}/{{id}}/x", to: {{service: web}}}}' for n in range(routes - 1)
    )
    catalogue.write_text(CATALOGUE.format(routes=more))
    with started(
        sys.executable, str(PARTS / "gateway_server.py"),
        str(catalogue), str(folder / "state"), mesh, str(port), loop,
        KEYS=str(keys), DOOR=door, PYTHONPATH=f"{ROOT}:{ROOT / 'benchmarks'}",
    ) as process:  # fmt: skip
        key = process.stdout.readline().strip() if process.stdout else ""
        if not key:
            sys.exit("the gateway did not start; run parts/gateway_server.py to see why")
        yield Measured(process, port, key)


def side_by_side(
    programs: Mapping[str, Measured], seconds: float, rounds: int
) -> Mapping[str, Mapping[str, float]]:
    """Return the median of each figure of each program, which take turns."""
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in programs}
    for program in programs.values():
        program.load(min(1.0, seconds))
    for number in range(rounds):
        for name, program in programs.items():
            found[name].append(program.load(seconds))
            costs = found[name][-1]
            say(f"{number + 1}: {name} {costs['cpu_us']:.0f} us, {costs['per_second']:.0f}/s")
    return {
        name: {each: statistics.median(one[each] for one in all_) for each in all_[0]}
        for name, all_ in found.items()
    }


def added(one: Measured, bare: Measured, seconds: float, per_second: float) -> float:
    """Return milliseconds that ``one`` adds to the p99 at half of its own most."""
    pause = CONNECTIONS / (per_second / 2)
    slow = one.load(seconds, pause=pause)["p99_ms"]
    return slow - bare.load(seconds, pause=pause)["p99_ms"]


def measured(folder: Path, given: argparse.Namespace) -> tuple[dict[str, object], dict[str, float]]:
    """Return all figures, and the ratios."""
    figures: dict[str, object] = {}
    ratios: dict[str, float] = {}
    mesh, tcp = str(folder / "mesh.sock"), free_port()
    installation = None if given.no_express else installed(cache_folder())
    with ExitStack() as stack:
        upstream = stack.enter_context(
            started(sys.executable, str(PARTS / "lean_upstream.py"), mesh, str(tcp))
        )
        pinned(upstream.pid, OTHER)
        for loop in ("asyncio", "uvloop"):
            say(f"{loop}: gateway beside a bare proxy")
            with ExitStack() as inner:
                programs = {
                    "proxy": inner.enter_context(proxy(mesh, loop)),
                    "gateway": inner.enter_context(gateway(folder / loop, mesh, loop)),
                }
                if loop == "uvloop":
                    programs["lean"] = inner.enter_context(
                        gateway(folder / "lean", mesh, loop, door="lean")
                    )
                if installation is not None and loop == "uvloop":
                    programs["express"] = Measured(
                        *inner.enter_context(express_gateway(installation, folder / "express", tcp))
                    )
                found = side_by_side(programs, given.seconds, given.rounds)
                for name, costs in found.items():
                    figures |= {
                        f"{loop}_{name}_{each}": round(costs[each], 2)
                        for each in ("cpu_us", "per_second", "p50_ms", "p99_ms")
                    }
                ours = found["gateway"]
                ratios[f"{loop}_gateway_to_proxy_cpu"] = ours["cpu_us"] / found["proxy"]["cpu_us"]
                if "lean" in found:
                    ratios["lean_door_to_proxy_cpu"] = (
                        found["lean"]["cpu_us"] / found["proxy"]["cpu_us"]
                    )
                if "express" in found:
                    theirs = found["express"]["per_second"]
                    ratios["gateway_to_express_per_second"] = ours["per_second"] / theirs
                    ratios["express_to_gateway_cpu"] = found["express"]["cpu_us"] / ours["cpu_us"]
                figures[f"{loop}_p99_added_at_half_load_ms"] = round(
                    added(
                        programs["gateway"], programs["proxy"], given.seconds, ours["per_second"]
                    ),
                    2,
                )
        say(f"1 and 1000 routes, 1 and {given.keys} keys")
        with ExitStack() as inner:
            programs = {
                "small": inner.enter_context(gateway(folder / "small", mesh, "uvloop")),
                "routes": inner.enter_context(
                    gateway(folder / "routes", mesh, "uvloop", routes=1000)
                ),
                "keys": inner.enter_context(
                    gateway(folder / "keys", mesh, "uvloop", keys=given.keys)
                ),
            }
            found = side_by_side(programs, given.seconds, given.rounds)
            for name, costs in found.items():
                figures[f"{name}_cpu_us"] = round(costs["cpu_us"], 2)
            for name in ("routes", "keys"):
                ratios[f"many_{name}_to_few_cpu"] = found[name]["cpu_us"] / found["small"]["cpu_us"]
    return figures, {name: round(value, 3) for name, value in ratios.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--no-express", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as name:
        figures, ratios = measured(Path(name), given)
    closing("gateway_cost", figures, "bare aiohttp proxy, express-gateway", ratios)


if __name__ == "__main__":
    main()
