"""Full load on one gateway: memory over time, and which usage is lost by what happens to it.

Each caller has a key of its own and one call at a time under way, so whatever it was answered
and the log does not hold was lost: exactly.

Run: python benchmarks/gateway_soak.py [--seconds 600] [--plot docs/gateway-memory.svg]
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from parts.plots import line_plot
from parts.processes import ROOT, closing, free_port
from parts.soak_load import Caller, loaded

from gateway.metering.batch import uses
from gateway.metering.rollup import used
from gateway.usage import LOG
from wherry.cli.settings import cache_folder
from wherry.clock import SystemClock
from wherry.store import opened

CALLERS = 24
EVENT_SECONDS = 8.0
"""How long the load goes on around each thing that happens."""
KILLS = 4
"""Times that the gateway is killed; each is another moment of its flush window."""
DOWN_SECONDS = 2.0
"""How long what was ended stays away."""
OK = 200

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
spec:
  rate: {requests: 1000000, per: 1s}
  quotas: [{name: monthly, limit: 100000000000, window: month}]
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: bench}
spec:
  apps: [APPS]
  subscriptions: [{product: bench, plan: fast}]
""".replace("APPS", ", ".join(f"{{name: caller{n}}}" for n in range(CALLERS)))


@dataclass
class Site:
    """The processes under test.

    Attributes:
        folder: For all files.
        store: URL of the Store.
        callers: Who calls; known after the first start.
    """

    folder: Path
    store: str
    port: int = field(default_factory=free_port)
    callers: list[Caller] = field(default_factory=list)
    gateway: subprocess.Popen[str] | None = None
    upstream: subprocess.Popen[str] | None = None

    def start_upstream(self) -> None:
        """Start the upstream."""
        path = self.folder / "mesh.sock"
        path.unlink(missing_ok=True)
        self.upstream = _program("upstream.py", str(path), core=1)
        while not path.exists():
            if self.upstream.poll() is not None:
                sys.exit("the upstream did not start; run benchmarks/parts/upstream.py to see why")
            time.sleep(0.02)

    def start_gateway(self) -> None:
        """Start the gateway; at the first start with a key for each caller."""
        catalogue = self.folder / "catalogue.yaml"
        catalogue.write_text(CATALOGUE)
        count = 0 if self.callers else CALLERS
        argv = [catalogue, self.folder / "state", self.folder / "mesh.sock", self.port]
        self.gateway = _program("soak_server.py", *map(str, argv), self.store, str(count), core=0)
        line = self.gateway.stdout.readline() if self.gateway.stdout else ""
        if not line:
            sys.exit("the gateway did not start; run benchmarks/parts/soak_server.py to see why")
        self.callers = self.callers or [Caller(text) for text in json.loads(line)]

    def end(self) -> None:
        """End both."""
        for process in (self.gateway, self.upstream):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()
                process.wait()

    def rss_mib(self) -> float:
        """Return the memory that the gateway holds."""
        assert self.gateway is not None
        status = Path(f"/proc/{self.gateway.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def _program(name: str, *argv: str, core: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks/parts" / name), *argv],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}"},
    )
    os.sched_setaffinity(process.pid, {core % (os.cpu_count() or 1)})
    return process


@dataclass(frozen=True)
class Outcome:
    """What became of the usage of one run.

    Attributes:
        answered: Calls that were answered with 200.
        logged: Of these in the log.
        lost: Of these not in the log, over all callers.
        twice: Ids that the log has more than once.
        agree: Whether the rollups say the same as the log.
        seconds: In which the calls were answered.
    """

    answered: int
    logged: int
    lost: int
    twice: int
    agree: bool
    seconds: float


async def outcome(url: str, callers: Sequence[Caller]) -> Outcome:
    """Compare what callers were answered with what the log and the rollups hold."""
    logged: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    async with opened(url) as store:
        after = 0
        while events := await store.read(LOG, after, limit=200):
            after = events[-1].offset
            for event in events:
                for use in uses(event.body):
                    ids[use.id] += 1
                    if use.status == OK:
                        logged[use.app] += 1
        sums = await used(store, begins_ns=0, ends_ns=SystemClock().unix_ns())
    answered = {f"caller{n}": caller.answered[OK] for n, caller in enumerate(callers)}
    return Outcome(
        sum(answered.values()),
        logged.total(),
        sum(max(0, count - logged[app]) for app, count in answered.items()),
        sum(count > 1 for count in ids.values()),
        sum(value.calls for value in sums.values()) == ids.total(),
        sum(caller.seconds for caller in callers) / len(callers),
    )


async def through(site: Site, happening: Callable[[], None] | None) -> None:
    """Call while something happens in the middle."""
    async with loaded(site.callers, site.port):
        await asyncio.sleep(EVENT_SECONDS / 2)
        if happening is not None:
            await asyncio.to_thread(happening)
        await asyncio.sleep(EVENT_SECONDS / 2)


@contextlib.contextmanager
def running(store: str | None = None) -> Iterator[Site]:
    """Run an upstream and a gateway with an own folder."""
    with tempfile.TemporaryDirectory(prefix="wherry-soak-") as name:
        folder = Path(name)
        site = Site(folder, store or f"sqlite:{folder / 'wherry.db'}")
        try:
            site.start_upstream()
            site.start_gateway()
            yield site
        finally:
            site.end()


def soaked(seconds: float, plot: Path | None) -> Mapping[str, object]:
    """Return how memory went over time under full load."""
    with running() as site:
        samples = asyncio.run(_soak(site, seconds))
        site.end()
        found = asyncio.run(outcome(site.store, site.callers))
    if plot is not None:
        plot.write_text(line_plot("Memory of the gateway at full load", "MiB", "seconds", samples))
    settled = [value for at, value in samples if at >= seconds / 5]
    half = len(settled) // 2
    first, last = (statistics.median(part) for part in (settled[:half], settled[half:]))
    return {
        "soak_seconds": seconds,
        "soak_calls_per_second": round(found.answered / seconds),
        "soak_rss_first_half_mib": round(first, 1),
        "soak_rss_second_half_mib": round(last, 1),
        "soak_rss_growth_percent": round((last / first - 1) * 100, 1),
        "soak_calls": found.answered,
        "soak_lost": found.lost,
        "soak_twice": found.twice,
        "soak_rollups_agree": found.agree,
    }


async def _soak(site: Site, seconds: float) -> list[tuple[float, float]]:
    samples = []
    began = time.perf_counter()
    async with loaded(site.callers, site.port):
        while (at := time.perf_counter() - began) < seconds:
            samples.append((at, site.rss_mib()))
            await asyncio.sleep(1.0)
    return samples


def ended(site: Site) -> None:
    """End the gateway in order and start it again."""
    assert site.gateway is not None
    site.gateway.send_signal(signal.SIGTERM)
    site.gateway.wait(60)
    time.sleep(DOWN_SECONDS)
    site.start_gateway()


def killed(site: Site) -> None:
    """Kill the gateway and start it again, `KILLS` times."""
    for _ in range(KILLS):
        assert site.gateway is not None
        site.gateway.kill()
        site.gateway.wait()
        site.start_gateway()
        time.sleep(DOWN_SECONDS)


def upstream_crashed(site: Site) -> None:
    """Kill the upstream and start it again."""
    assert site.upstream is not None
    site.upstream.kill()
    site.upstream.wait()
    time.sleep(DOWN_SECONDS)
    site.start_upstream()


HAPPENINGS = {"sigterm": ended, "upstream_crash": upstream_crashed, "kill": killed}


def happened(name: str) -> Outcome:
    """Return what became of usage when the gateway was ended, killed, or lost its upstream."""
    with running() as site:
        asyncio.run(through(site, partial(HAPPENINGS[name], site)))
        site.end()
        return asyncio.run(outcome(site.store, site.callers))


def redis_restarted() -> Outcome | None:
    """Return what became of usage when Redis was away for a while; None without a Redis."""
    found = redis_server()
    if found is None:
        return None
    with tempfile.TemporaryDirectory(prefix="wherry-redis-") as folder:
        port = free_port()
        process = found.started(folder, port)

        def restart() -> None:
            nonlocal process
            process.terminate()
            process.wait()
            time.sleep(DOWN_SECONDS)
            process = found.started(folder, port)

        try:
            with running(f"redis://127.0.0.1:{port}") as site:
                asyncio.run(through(site, restart))
                site.end()
                return asyncio.run(outcome(site.store, site.callers))
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class RedisServer:
    """A redis-server that can be started."""

    path: str
    environment: Mapping[str, str]

    def started(self, folder: str, port: int) -> subprocess.Popen[bytes]:
        """Start it; return when it takes connections."""
        argv = [self.path, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        process = subprocess.Popen(
            [*argv, *durable], env={**os.environ, **self.environment}, stdout=subprocess.PIPE
        )
        for line in process.stdout or ():
            if b"eady to accept connections" in line:
                return process
        raise SystemExit("redis-server did not start")


def redis_server() -> RedisServer | None:
    """Return the one on PATH, else the one that the tests unpack; None when there is neither."""
    path = shutil.which("redis-server")
    if path is not None:
        return RedisServer(path, {})
    for folder in sorted(cache_folder().glob("peers-*")):
        if (folder / "usr/bin/redis-server").exists():
            libraries = [str(each) for each in folder.glob("**/x86_64-linux-gnu") if each.is_dir()]
            libraries += [str(folder / "usr/lib"), str(folder / "lib")]
            environment = {"LD_LIBRARY_PATH": ":".join(libraries)}
            return RedisServer(str(folder / "usr/bin/redis-server"), environment)
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of full load")
    parser.add_argument("--plot", type=Path, help="SVG file of memory over time")
    asked = parser.parse_args()
    figures: dict[str, object] = {}
    rows = []
    for name in (*HAPPENINGS, "redis_restart"):
        print(f"  {name}", file=sys.stderr, flush=True)
        found = redis_restarted() if name == "redis_restart" else happened(name)
        if found is None:
            print("  there is no redis-server", file=sys.stderr)
            continue
        rows.append((name, found))
        rate = found.answered / found.seconds
        times = KILLS if name == "kill" else 1
        figures[f"{name}_answered"] = found.answered
        figures[f"{name}_lost"] = found.lost
        figures[f"{name}_lost_ms"] = round(found.lost / times / rate * 1e3, 1)
        figures[f"{name}_twice"] = found.twice
        figures[f"{name}_rollups_agree"] = found.agree
    print(f"  {asked.seconds:g} s of full load", file=sys.stderr, flush=True)
    figures |= soaked(asked.seconds, asked.plot)
    print(f"{'what happened':<16}{'answered':>10}{'logged':>10}{'lost':>6}{'twice':>7}{'sums':>8}")
    for name, each in rows:
        sums = "agree" if each.agree else "differ"
        print(
            f"{name:<16}{each.answered:>10}{each.logged:>10}{each.lost:>6}{each.twice:>7}{sums:>8}"
        )
    growth = float(str(figures["soak_rss_second_half_mib"])) / float(
        str(figures["soak_rss_first_half_mib"])
    )
    closing("gateway_soak", figures, "the first half of the run", {"memory": round(growth, 3)})


if __name__ == "__main__":
    main()
