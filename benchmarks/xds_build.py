"""A large World to bytes: all of it at first, and then one change, beside building it all again.

Run: python benchmarks/xds_build.py [--quick]
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from betterproto2 import Message
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from parts.large import EDGE, SIDECAR, around, mesh, route
from parts.processes import closing

from wherry.model.world import World
from xds.builders.compiler import Compiler
from xds.builders.scopes import Scope, Surroundings
from xds.delta import DeltaRequest, DeltaStream
from xds.encode import encode
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SCOPED_ROUTE
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream

QUICK = "--quick" in sys.argv
SERVICES, ENDPOINTS, ROUTES = (100, 10, 300) if QUICK else (1000, 10, 3000)
CHANGES = 20 if QUICK else 100
SAMPLE = 20
"""Messages of each type that betterproto encodes, to know what all of them would cost."""

Stream = SotwStream | DeltaStream


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def rss_mib() -> float:
    """Return the resident memory of this process."""
    gc.collect()
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    ]
    return int(line.split()[1]) / 1024


def cpu_ms(work: Callable[[], object]) -> float:
    """Return CPU milliseconds of one run."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def settled(stream: Stream, snapshot: Snapshot) -> Stream:
    """Return ``stream`` with a client that holds all of ``snapshot``."""
    stream.publish(snapshot)
    waiting = []
    for type_url in (CLUSTER, ENDPOINT, LISTENER, SCOPED_ROUTE, ROUTE):
        explicit = type_url in {ENDPOINT, ROUTE}
        names = frozenset(snapshot.named(type_url)) if explicit else frozenset()
        if isinstance(stream, DeltaStream):
            waiting += stream.receive(DeltaRequest(type_url, subscribe=names))
        else:
            waiting += stream.receive(Request(type_url, names=names))
    acknowledged(stream, waiting)
    if not stream.settled:
        sys.exit("the client does not settle")
    return stream


def acknowledged(stream: Stream, responses: list) -> None:
    """Say yes to everything, and to what follows from that."""
    while responses:
        each = responses.pop(0)
        if isinstance(stream, DeltaStream):
            responses += stream.receive(DeltaRequest(each.type_url, nonce=each.nonce))
        else:
            names = stream.subscriptions[each.type_url].names
            version = each.version
            request = Request(each.type_url, names=names, nonce=each.nonce, version=version)
            responses += stream.receive(request)


class House:
    """A Compiler, and clients of one scope: one of each protocol."""

    def __init__(self, world: World, surroundings: Surroundings, scope: Scope) -> None:
        self.world, self.around, self.scope = world, surroundings, scope
        self.compiler = Compiler(world, surroundings)
        first = self.compiler.snapshot(scope)
        self.streams: dict[str, Stream] = {
            "delta": settled(DeltaStream(), first),
            "sotw": settled(SotwStream(), first),
        }

    def changed(self) -> dict[str, float]:
        """Return CPU milliseconds from a change to the bytes of each protocol's response."""

        def compiled() -> Snapshot:
            self.compiler.update(self.world, self.around)
            return self.compiler.snapshot(self.scope)

        began = time.process_time()
        snapshot = compiled()
        built = (time.process_time() - began) * 1e3
        taken = {"build": built}
        for name, stream in self.streams.items():
            began = time.process_time()
            responses = stream.publish(snapshot)
            size = sum(len(response.raw) for response in responses)
            taken[name] = built + (time.process_time() - began) * 1e3
            if not size:
                sys.exit(f"no response of the {name} stream to a change")
            acknowledged(stream, responses)
        return taken

    def endpoint_moves(self, turn: int) -> None:
        """Put one workload elsewhere."""
        workloads = list(self.around.workloads)
        middle = len(workloads) // 2
        workloads[middle] = replace(workloads[middle], port=30_000 + turn)
        self.around = replace(self.around, workloads=tuple(workloads))

    def route_changes(self, number: int, turn: int) -> None:
        """Give one route another path."""
        changed = route(number, SERVICES, 1 + turn)
        routes = {**self.world.http_routes, changed.name: changed}
        self.world = replace(self.world, http_routes=routes)


def each_change(house: House, change: Callable[[int], None]) -> dict[str, float]:
    """Return the median costs of `CHANGES` changes, after two to warm up."""
    taken: dict[str, list[float]] = {}
    for turn in range(CHANGES + 2):
        change(turn)
        costs = house.changed()
        if turn > 1:
            for name, cost in costs.items():
                taken.setdefault(name, []).append(cost)
    return {name: round(statistics.median(costs), 3) for name, costs in taken.items()}


def betterproto_ms(snapshot: Snapshot) -> float:
    """Return what ``bytes(message)`` would take for the snapshot, by a sample of its messages."""
    total = 0.0
    for type_url, kind in ((CLUSTER, Cluster), (ENDPOINT, ClusterLoadAssignment)):
        bodies = [resource.body for resource in snapshot.named(type_url).values()]
        total += _sampled([kind.parse(body) for body in bodies[:SAMPLE]], len(bodies))
    routes = [r.body for name, r in snapshot.named(ROUTE).items() if name.startswith("outbound/")]
    return total + _sampled([RouteConfiguration.parse(r) for r in routes[:SAMPLE]], len(routes))


def _sampled(messages: list[Message], count: int) -> float:
    encode(messages[0])
    return cpu_ms(lambda: [bytes(each) for each in messages]) / len(messages) * count


def main() -> None:
    """Measure and print."""
    say("a World")
    world, surroundings = mesh(SERVICES, ROUTES), around(SERVICES, ENDPOINTS)
    Compiler(mesh(1, 3), around(1, 1)).snapshot(SIDECAR)
    say("its first build")
    before = rss_mib()
    compilers = []
    began = time.process_time()
    compilers.append(Compiler(world, surroundings))
    parts = (time.process_time() - began) * 1e3
    first = compilers[0].snapshot(SIDECAR)
    build = (time.process_time() - began) * 1e3
    figures: dict[str, object] = {
        "services": SERVICES,
        "endpoints": SERVICES * ENDPOINTS,
        "routes": ROUTES,
        "first_build_parts_ms": round(parts, 1),
        "first_build_ms": round(build, 1),
        "first_build_rss_mib": round(rss_mib() - before, 1),
        "bytes_mib": round(
            sum(len(r.body) for named in first.by_type.values() for r in named.values()) / 2**20, 2
        ),
    }
    say("the same by betterproto")
    slow = betterproto_ms(first)
    figures["betterproto_encode_ms"] = round(slow, 1)
    compilers.clear()
    again = statistics.median(
        cpu_ms(lambda: Compiler(world, surroundings).snapshot(SIDECAR)) for _ in range(3)
    )
    figures["rebuild_ms"] = round(again, 1)
    inside, edge = House(world, surroundings, SIDECAR), House(world, surroundings, EDGE)
    ratios = {"first_build_to_betterproto_encoding": build / slow}
    for name, house, change in (
        ("endpoint", inside, inside.endpoint_moves),
        ("route", inside, lambda turn: inside.route_changes(1, turn)),
        ("gateway_route", edge, lambda turn: edge.route_changes(3, turn)),
    ):
        say(f"{CHANGES} changes of one {name}")
        costs = each_change(house, change)
        figures |= {f"{name}_{kind}_ms": cost for kind, cost in costs.items()}
        ratios |= {f"{name}_{kind}_to_rebuild": costs[kind] / again for kind in ("delta", "sotw")}
    rounded = {name: round(ratio, 5) for name, ratio in ratios.items()}
    closing("xds_build", figures, "betterproto's encoding; building all again", rounded)


if __name__ == "__main__":
    main()
