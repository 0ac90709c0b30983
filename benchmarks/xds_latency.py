"""From a change to traffic through a real Envoy, beside ready-made bytes pushed to another one.

Run: python benchmarks/xds_latency.py [--quick]
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from parts.asker import Asker
from parts.control import Child, child
from parts.processes import closing, free_port

from wherry.cli.envoys import Envoy, serving
from wherry.serve import Address

QUICK = "--quick" in sys.argv
CHANGES = 20 if QUICK else 200
SPLITS = 10 if QUICK else 40
"""Changes that are watched on their way, which delays them a little; not among the others."""
ROUTES = 300 if QUICK else 3000
SERVICES = 100 if QUICK else 1000
ROUTE_CHANGES = 8 if QUICK else 30
PAUSE = 0.03
"""Seconds between two changes, so that they are no storm."""

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: wherry
  listeners: [{name: http, port: 8080, protocol: HTTP}]
"""


def weighted(turn: int) -> str:
    """Return a World whose one route leads to service one or two."""
    one, two = (1, 0) if turn % 2 == 0 else (0, 1)
    return f"""
services: {{one: {{}}, two: {{}}}}
---{GATEWAY}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: split}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [split.example]
  rules:
  - backendRefs: [{{name: one, weight: {one}}}, {{name: two, weight: {two}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: swap}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [swap.example]
  rules:
  - backendRefs: [{{name: one}}]
"""


def large(turn: int) -> str:
    """Return a World of `ROUTES` routes, of which the one in the middle changes."""
    names = ["one", "two", *(f"svc-{number}" for number in range(SERVICES - 2))]
    services = "\n".join(f"  {name}: {{}}" for name in names)
    parts = [f"services:\n{services}\n", GATEWAY]
    for number in range(ROUTES):
        to = names[2 + number % (SERVICES - 2)]
        if number == ROUTES // 2:
            to = ("one", "two")[turn % 2]
        parts.append(f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: route-{number}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [route-{number}.example]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /}}}}]
    backendRefs: [{{name: {to}}}]
""")
    return "---".join(parts)


@asynccontextmanager
async def envoy(name: str, xds: int, folder: Path, gateway: str = "edge") -> AsyncIterator[int]:
    """Run an Envoy as a gateway and yield the port of its listener."""
    port = free_port()
    metadata = {"role": "gateway", "gateway": gateway, "ports": {"8080": port}}
    async with serving(Envoy(name, metadata, Address(port=xds), folder)):
        yield port


def bare_envoy(name: str, server: Child, folder: Path) -> Envoy:
    """Return an Envoy that asks the bare server."""
    return Envoy(name, {"role": "bare"}, Address(port=server.ask("port")), folder)


def ready(server: Child, what: str) -> Callable[..., Any]:
    """Return a change that the bare server makes with bytes it has at hand."""

    def change(turn: int, *, split: bool) -> Any:
        del split
        return {"began": server.ask("push", variant="delta", what=what, turn=turn)}

    return change


def millis(taken: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum in milliseconds."""
    ranked = sorted(taken)
    return {
        "median_ms": round(statistics.median(ranked) * 1e3, 2),
        "p99_ms": round(ranked[int((len(ranked) - 1) * 0.99)] * 1e3, 2),
        "max_ms": round(ranked[-1] * 1e3, 2),
    }


def splits(seen: list[dict[str, float]]) -> dict[str, float]:
    """Return the median way of changes that were watched: milliseconds since the change."""
    return {
        f"{what}_after_ms": round(statistics.median(s[what] - s["began"] for s in seen) * 1e3, 2)
        for what in ("published", "acknowledged", "traffic")
    }


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


class Course:
    """Changes of one kind, one after the other.

    Args:
        change: Makes the change of a turn; returns when it ``began``, and more.
        asker: Sees it in traffic.
        answers: What the backends answer at even and odd turns.
        calm: Returns when the servers are at rest.
    """

    def __init__(
        self,
        change: Callable[..., Any],
        asker: Asker,
        answers: tuple[str, str],
        calm: Callable[[], object],
    ) -> None:
        self._change, self._asker, self._answers, self._calm = change, asker, answers, calm
        self._turn = 0
        self.taken: list[float] = []
        self.seen: list[dict[str, float]] = []
        calm()
        asker.until(answers[0])

    def once(self, *, split: bool = False) -> None:
        """Make the next change and wait for its traffic."""
        self._turn += 1
        self._calm()
        time.sleep(PAUSE)
        told = self._change(self._turn, split=split)
        traffic = self._asker.until(self._answers[self._turn % 2])
        if split:
            self.seen.append({**told, "traffic": traffic})
        else:
            self.taken.append(traffic - told["began"])


async def small_changes(folder: Path, figures: dict[str, Any]) -> None:
    """Measure endpoints and weights in a small World, and ready-made bytes beside them."""
    async with AsyncExitStack() as stack:
        backends = stack.enter_context(child("http_backend", 0))
        pilot = stack.enter_context(child("pilot", core=0))
        ports = [backends.ask("start", text=text) for text in ("one", "two")]
        mesh = pilot.ask("serve", text=weighted(0))
        for service, port in zip(("one", "two"), ports, strict=True):
            pilot.ask("register", service=service, name="first", port=port)
        ours = await stack.enter_async_context(envoy("ours", mesh, folder))
        listener = free_port()
        bare = stack.enter_context(child("bare_xds", listener, *ports, 1, core=0))
        await stack.enter_async_context(serving(bare_envoy("bare", bare, folder)))

        def endpoint(turn: int, *, split: bool) -> Any:
            to = ports[turn % 2]
            return pilot.ask("register", service="one", name="first", port=to, split=split)

        def weight(turn: int, *, split: bool) -> Any:
            return pilot.ask("replace", text=weighted(turn), split=split)

        def calm() -> None:
            pilot.ask("settled")

        answers = ("one", "two")
        courses = {
            "endpoint": Course(endpoint, Asker(ours, "swap.example"), answers, calm),
            "bare": Course(
                ready(bare, "endpoint"), Asker(listener, "route-0.example"), answers, lambda: None
            ),
        }
        await measured(courses, figures)
        pilot.ask("register", service="one", name="first", port=ports[0])
        calm()
        await measured(
            {"weight": Course(weight, Asker(ours, "split.example"), answers, calm)}, figures
        )


async def measured(courses: dict[str, Course], figures: dict[str, Any]) -> None:
    """Run the courses in turns."""
    for _ in range(CHANGES):
        for course in courses.values():
            course.once()
    for name, course in courses.items():
        figures[name] = millis(course.taken)
        if name != "bare":
            for _ in range(SPLITS):
                course.once(split=True)
            figures[name] |= splits(course.seen)
        say(f"{name}: {figures[name]}")


async def one_route_of_many(folder: Path, figures: dict[str, Any]) -> None:
    """Measure the change of one route where there are `ROUTES`."""
    async with AsyncExitStack() as stack:
        backends = stack.enter_context(child("http_backend", 0))
        pilot = stack.enter_context(child("pilot", core=0))
        ports = [backends.ask("start", text=text) for text in ("one", "two")]
        mesh = pilot.ask("serve", text=large(0))
        for service, port in zip(("one", "two"), ports, strict=True):
            pilot.ask("register", service=service, name="first", port=port)
        ours = await stack.enter_async_context(envoy("large", mesh, folder))
        read: list[float] = []

        def change(turn: int, *, split: bool) -> Any:
            told = pilot.ask("replace", text=large(turn), split=split)
            read.append(told["read_s"])
            return told

        host, answers = f"route-{ROUTES // 2}.example", ("one", "two")
        asker = Asker(ours, host, pause=0.001)
        course = Course(change, asker, answers, lambda: pilot.ask("settled"))
        listener = free_port()
        bare = stack.enter_context(child("bare_xds", listener, *ports, ROUTES, core=0))
        await stack.enter_async_context(serving(bare_envoy("large-bare", bare, folder)))
        plain = Course(
            ready(bare, "route"), Asker(listener, host, pause=0.001), answers, lambda: None
        )
        for _ in range(ROUTE_CHANGES + 1):
            course.once()
            plain.once()
        del course.taken[0], plain.taken[0]  # the first also fills caches
        for _ in range(max(3, ROUTE_CHANGES // 6)):
            course.once(split=True)
        found = millis(course.taken) | splits(course.seen)
        found["read_median_ms"] = round(statistics.median(read) * 1e3, 1)
        figures["route"], figures["bare_route"] = found, millis(plain.taken)
        say(f"one of {ROUTES} routes: {found}")
        say(f"the whole table, plain, as ready bytes: {figures['bare_route']}")


async def measure(folder: Path) -> None:
    """Measure and print."""
    figures: dict[str, Any] = {"changes": CHANGES, "routes": ROUTES}
    await small_changes(folder, figures)
    await one_route_of_many(folder, figures)
    ratios = {
        f"{kind}_to_bare": round(figures[kind]["median_ms"] / figures[bare]["median_ms"], 2)
        for kind, bare in (("endpoint", "bare"), ("weight", "bare"), ("route", "bare_route"))
    }
    closing("xds_latency", figures, "ready bytes from bare grpc.aio to another Envoy", ratios)


def main() -> None:
    """Leave a core to the Pilot; the client, Envoy and the backends share the other."""
    os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
