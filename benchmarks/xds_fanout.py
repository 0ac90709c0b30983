"""What a push costs: the Pilot's server beside a bare gRPC server that writes the same bytes.

Each server has one core and is asked by the same light client on the other. A cost is CPU time
of the server, user and system, for one push to one stream and its ACK. Rounds alternate between
the servers, so that whatever else the machine does meets all; a ratio is the median of the rounds'.

Run: python benchmarks/xds_fanout.py [--quick]
"""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from parts.control import Child, child
from parts.processes import closing

from xds.resource import CLUSTER, ENDPOINT

TYPE = {"endpoint": ENDPOINT, "cluster": CLUSTER}
SECONDS = 90.0
"""Longest that the clients may take to hear of anything."""
LOOK, AT_REST = 0.05, 0.002
"""Seconds between two looks at a server, and CPU seconds meanwhile below which it is at rest."""
KIB = 1024


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        streams: Streams of a fan-out.
        herd: Streams that come at once.
        clusters: Clusters of the large World.
        rounds: Rounds of each case, each of both servers.
        pushes: Pushes of one round.
    """

    streams: int = 1000
    herd: int = 5000
    clusters: int = 1000
    rounds: int = 5
    pushes: int = 4


FULL = Size()
QUICK = Size(streams=200, herd=1000, clusters=200, rounds=3, pushes=3)


@dataclass(frozen=True, slots=True)
class Side:
    """A server and the clients that ask it."""

    name: str
    server: Child
    clients: Child
    port: int

    def at_rest(self) -> float:
        """Return the CPU seconds of the server once it has nothing left to do."""
        before = self.server.cpu()
        while True:
            time.sleep(LOOK)
            now = self.server.cpu()
            if now - before < AT_REST:
                return now
            before = now

    def opened(self, variant: str, streams: int, connections: int, *, paced: bool = False) -> float:
        """Open streams and return the seconds until each had everything; an error ends us.

        With ``paced`` one connection after the other, so that few first responses are under way.
        """
        said = self.clients.ask(
            "open", port=self.port, variant=variant, streams=streams, connections=connections,
            seconds=SECONDS, paced=paced,
        )  # fmt: skip
        if said["errors"] or said["incomplete"]:
            sys.exit(f"{self.name}, {streams} {variant} streams: {said}, expected no error")
        return float(said["seconds"])

    def pushed(self, variant: str, what: str, turns: range, streams: int) -> float:
        """Push once for each turn; return CPU microseconds for each stream and push."""
        before = self.at_rest()
        for turn in turns:
            self.clients.ask("expect")
            self.server.ask("push", variant=variant, what=what, turn=turn)
            heard = self.clients.ask("wait", type_url=TYPE[what], count=streams, seconds=SECONDS)
            if heard["errors"]:
                sys.exit(f"{self.name}, push of {what}: {heard}, expected no error")
        return (self.at_rest() - before) / len(turns) / streams * 1e6


@contextmanager
def sides(clusters: int, *, scopes: int = 0) -> Iterator[tuple[Side, ...]]:
    """Run the servers: bare, ours, ours on our own HTTP/2, bare that collects rarely as ours do."""
    with ExitStack() as stack:

        def side(name: str, program: str, *arguments: object) -> Side:
            server = stack.enter_context(child(program, *arguments, core=0))
            clients = stack.enter_context(child("xds_clients", core=1))
            return Side(name, server, clients, server.ask("port"))

        yield (
            side("bare", "bare_xds", clusters),
            side("ours", "our_xds", clusters, scopes),
            side("http2", "our_http2", clusters, scopes),
            side("rarely", "bare_xds", clusters, "--rarely"),
        )


@dataclass
class Report:
    """What was found, for the closing line."""

    size: Size
    figures: dict[str, object] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def costs(
        self, pair: tuple[Side, ...], name: str, variant: str, what: str, *, pushes: int = 0
    ) -> None:
        """Measure pushes of ``what`` in alternating rounds."""
        pushes = pushes or self.size.pushes
        found: list[list[float]] = []
        for number in range(self.size.rounds + 1):  # the first warms up
            turns = range(number * pushes + 1, (number + 1) * pushes + 1)
            found.append([side.pushed(variant, what, turns, self.size.streams) for side in pair])
        del found[0]
        medians = [statistics.median(costs) for costs in zip(*found, strict=True)]
        for place, side in enumerate(pair):
            self.figures[f"{name}_{side.name}_us"] = round(medians[place])
            ratio = statistics.median(costs[place] / costs[0] for costs in found)
            self.ratios[f"{name}_{side.name}"] = round(ratio, 2)
        told = [f"{median:.0f} {side.name}" for side, median in zip(pair, medians, strict=True)]
        say(f"{name}: us {', '.join(told)}")

    def memory(self, pair: tuple[Side, ...], name: str, variant: str, connections: int) -> None:
        """Open the streams of servers that had none before and measure what each stream holds."""
        for side in pair:
            before = side.server.rss()
            side.opened(variant, self.size.streams, connections, paced=True)
            side.at_rest()
            held = (side.server.rss() - before) / self.size.streams / KIB
            self.figures[f"{name}_{side.name}_kib_per_stream"] = round(held, 1)
            say(f"{name}: {held:.1f} KiB per stream, {side.name}")

    def herd(self, pair: tuple[Side, ...], name: str, variant: str) -> None:
        """Open the herd, each stream on a connection of its own."""
        for side in pair[:3]:
            seconds = side.opened(variant, self.size.herd, self.size.herd)
            side.at_rest()
            self.figures[f"{name}_{side.name}_s"] = round(seconds, 2)
            say(f"{name}: {self.size.herd} streams in {seconds:.2f} s, {side.name}, no error")


def hang_up(pair: tuple[Side, ...]) -> None:
    """Close every stream."""
    for side in pair:
        side.clients.ask("close")
        side.at_rest()


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    size = QUICK if "--quick" in sys.argv else FULL
    report = Report(size)
    n, few = size.streams, 10
    with sides(1) as pair:
        report.memory(pair, f"delta_on_{few}", "delta", few)
        report.costs(pair, f"endpoint_delta_on_{few}", "delta", "endpoint")
        report.costs(pair, "cluster_of_1_delta", "delta", "cluster")
        for variant, connections in (("sotw", few), ("sotw", n), ("delta", n)):
            hang_up(pair)
            for side in pair:
                side.opened(variant, n, connections)
            report.costs(pair, f"endpoint_{variant}_on_{connections}", variant, "endpoint")
    many = size.clusters
    with sides(many) as pair:
        report.memory(pair, f"delta_of_{many}_clusters", "delta", few)
        report.costs(pair, f"cluster_of_{many}_delta", "delta", "cluster")
        hang_up(pair)
        for side in pair:
            side.opened("sotw", n, few)
        report.costs(pair, f"cluster_of_{many}_sotw", "sotw", "cluster", pushes=1)
    one, large = (report.figures[f"cluster_of_{k}_delta_ours_us"] for k in (1, many))
    report.ratios[f"delta_of_{many}_to_of_1"] = round(float(large) / float(one), 2)
    with sides(100) as pair:
        report.herd(pair, "herd", "delta")
    with sides(100, scopes=n) as pair:
        report.memory(pair, f"delta_in_{n}_scopes", "delta", n)
        report.costs(pair, f"endpoint_delta_in_{n}_scopes", "delta", "endpoint")
        hang_up(pair)
        report.herd(pair, f"herd_in_{n}_scopes", "delta")
    closing("xds_fanout", report.figures, "bare grpc.aio writing ready bytes", report.ratios)


if __name__ == "__main__":
    main()
