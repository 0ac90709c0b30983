"""How exact limits are that several gateways share, and what a decision costs.

Four worker processes call as one caller, together well over the limit, with their counts in one
store: a real Redis, then one SQLite file. What passed is held against what the limit allows in
the time it took. Beside it: the CPU of a decision when nobody shares, and of one script on the
server for each request in place of batches.

Run: python benchmarks/gateway_limits.py [--quick]
"""

import asyncio
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from parts.limit_worker import CALLER, head
from parts.processes import ROOT
from support import redis

from gateway.limits import Allowance, Limits
from wherry.clock import SystemClock
from wherry.model.plan import Plan
from wherry.store.memory import MemoryStore

QUICK = "--quick" in sys.argv
SECONDS = 3.0 if QUICK else 10.0
WORKERS = 4
START = 0.3
"""Seconds until workers that are ready begin."""
TARGET_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """A limit under fire.

    Attributes:
        name: Shown.
        spec: Of the plan.
        burst: What may pass at once.
        flow: What may pass each second besides.
        rate: Calls of all workers together each second.
    """

    name: str
    spec: Mapping[str, Any]
    burst: int
    flow: float
    rate: float


def rate(requests: int, per: str, flow: float, burst: int, offered: float) -> Case:
    """Return a rate under fire."""
    spec = {"rate": {"requests": requests, "per": per, "burst": burst}}
    return Case(f"rate {requests} per {per}, burst {burst}", spec, burst, flow, offered)


def quota(limit: int, offered: float) -> Case:
    """Return a quota under fire."""
    spec = {"quotas": [{"name": "q", "limit": limit, "window": "year"}]}
    return Case(f"quota {limit}", spec, limit, 0, offered)


CASES = (
    rate(10, "1m", 10 / 60, 10, 200),
    rate(5, "1s", 5, 1, 200),
    rate(100, "1s", 100, 100, 400),
    rate(1000, "1s", 1000, 200, 2000),
    quota(100, 200),
    quota(1000, 1000),
    quota(10_000, 15_000 / SECONDS),
)


async def fired(case: Case, store: str, *, leased: bool = True) -> dict[str, float]:
    """Have all workers call under ``case``; return the sums of what came of it."""
    name = f"p{secrets.token_hex(4)}"
    children = []
    for n in range(WORKERS):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parts.limit_worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
        )
        job = {"store": store, "plan": case.spec, "name": name, "node": f"{name}-{n}"}
        job |= {"seconds": SECONDS, "rate": case.rate / WORKERS, "leased": leased}
        child.stdin.write(json.dumps(job).encode() + b"\n")
        children.append(child)
    for child in children:
        await child.stdout.readline()
    begins = time.time() + START  # noqa: TID251
    results: list[dict[str, float]] = []
    for child in children:
        child.stdin.write(b"%f\n" % begins)
    for child in children:
        said, _ = await child.communicate()
        results.append(json.loads(said))
    summed = {key: sum(each[key] for each in results) for key in ("passed", "refused", "asked")}
    passing = [each for each in results if each["passed"]]
    since = min(each["first"] for each in passing)
    return summed | {
        "cpu": sum(each["cpu"] for each in results),
        "fired": begins + SECONDS - since,
        "passing": max(each["last"] for each in passing) - since,
    }


def judged(case: Case, got: Mapping[str, float]) -> tuple[float, int]:
    """Return what may pass until the calls end, and how many passed too many or (below 0) few.

    Calls that began in time are answered a little later: up to then, none is too many.
    """
    least = case.burst + case.flow * got["fired"]
    most = case.burst + case.flow * max(got["fired"], got["passing"])
    passed = int(got["passed"])
    return least, max(0, passed - int(most)) or min(0, passed - int(least))


def alone() -> Iterator[tuple[str, float]]:
    """Yield CPU microseconds of a decision where nobody shares, with the fields it is told in."""
    plans = {
        "rate": {"rate": {"requests": 10**9}},
        "rate and quota": {
            "rate": {"requests": 10**9},
            "quotas": [{"name": "q", "limit": 10**12}],
        },
        "all four": {
            "rate": {"requests": 10**9},
            "spike": {"requests": 10**9},
            "quotas": [{"name": "q", "limit": 10**12}],
            "concurrency": {"calls": 1000},
        },
    }
    for name, spec in plans.items():
        document = {"apiVersion": "wherry.dev/v1", "kind": "Plan", "metadata": {"name": "p"}}
        allowance = Allowance.of(Plan.model_validate({**document, "spec": spec}))
        yield name, asyncio.run(_each(allowance))


async def _each(allowance: Allowance) -> float:
    limits = Limits(MemoryStore(), SystemClock(), node="one", shared=False)
    arguments = (allowance, CALLER, head(), "shop", "get", 1)
    async with asyncio.TaskGroup() as group:
        background = group.create_task(limits.run(), name="limits")
        (await limits.take_shared(*arguments)).release()
        spans = []
        for _ in range(20):
            began = time.process_time()
            for _ in range(5000):
                grant = limits.take(*arguments)
                if grant is None:
                    sys.exit("a gateway that is alone had to ask")
                if not grant.fields:
                    sys.exit("a grant said nothing")
                grant.release()
            spans.append((time.process_time() - began) / 5000)
            await asyncio.sleep(0)
        background.cancel()
    return statistics.median(spans) * 1e6


@contextmanager
def stores() -> Iterator[Mapping[str, str]]:
    """Yield stores by name."""
    with tempfile.TemporaryDirectory(prefix="wherry-limits-") as folder:
        (Path(folder) / "redis").mkdir()
        with redis.serving(Path(folder) / "redis") as server:
            yield {"Redis": server.url, "SQLite": f"sqlite:{folder}/limits.db"}


def main() -> None:
    """Measure and print."""
    print("CPU of a decision and its fields, nobody sharing (goal: rate and quota at most 5 µs)")
    for name, micros in alone():
        print(f"  {name:<16} {micros:6.2f} µs")
    worst = 0.0
    with stores() as urls:
        for store, url in urls.items():
            print(f"\n{WORKERS} workers on one {store}, {SECONDS:g} s each")
            heads = ("offered", "allowed", "passed")
            print(f"  {'limit':<32}", *(f"{each:>8}" for each in heads), f"{'off by':>14}  asked")
            for case in CASES:
                if store == "SQLite" and case.rate > 1000:
                    continue
                got = asyncio.run(fired(case, url))
                allowed, off = judged(case, got)
                percent = 100 * off / allowed
                calls = got["passed"] + got["refused"]
                if abs(off) > 1:
                    worst = max(worst, abs(percent))
                print(
                    f"  {case.name:<32} {calls:8.0f} {allowed:8.1f} {got['passed']:8.0f} "
                    f"{off:+6.0f} {percent:+6.2f}% {got['asked'] / calls:6.1%}"
                )
        print(f"\nworst: {worst:.2f} % (goal: at most {TARGET_PERCENT:g} %, or one call)")
        print("\nCPU of a call in a worker, far from the limit, on Redis (harness included)")
        large = rate(1_000_000, "1s", 10**6, 10**6, 4000)
        costs = {}
        for name, leased in (("one script each", False), ("in batches", True)):
            got = asyncio.run(fired(large, urls["Redis"], leased=leased))
            costs[name] = got["cpu"] / (got["passed"] + got["refused"]) * 1e6
            print(f"  {name:<16} {costs[name]:6.1f} µs")
        print(f"  ratio {costs['one script each'] / costs['in batches']:.1f}")


if __name__ == "__main__":
    main()
