"""A discovery server without a control plane: ready-made bytes to every stream, ACKs unread.

The least that grpc.aio can do for a push, to compare the Pilot with: `CLUSTERS` for many light
clients, or `LISTENER BACKEND BACKEND HOSTS` for one Envoy.
"""

import asyncio
import sys
import time
from collections.abc import Mapping

import grpc
import grpc.aio

from parts.control import answering
from parts.discovery import METHODS, SERVICE, WATCHED, response
from parts.samples import (
    CHANGING,
    CLUSTER,
    ENDPOINT,
    TYPES,
    changing,
    cluster,
    endpoints,
    listener,
    many_routes,
    watched,
    world,
)
from wherry.serve import collect_rarely
from xds.resource import Resource

Context = grpc.aio.ServicerContext[bytes, bytes]

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 20_000),
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
)


class Bare:
    """Streams of one variant, and what they are told.

    Each keeps a task that an event wakes for a write: measured cheaper than a task for each write
    (1.3 times) and than one write after the other (1.4 times).

    Args:
        first: What answers the first request of each type, by type URL.
    """

    def __init__(self, first: Mapping[bytes, bytes]) -> None:
        self._first, self._newest = first, b""
        self._open: set[asyncio.Event] = set()

    async def talk(self, _: object, context: Context) -> None:
        """Answer the first request of each type; after that only read."""
        asked = dict(self._first)
        changed = asyncio.Event()
        self._open.add(changed)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write(changed, context))
            while isinstance(raw := await context.read(), bytes):
                if asked:
                    for type_url in [each for each in asked if each in raw]:
                        await context.write(asked.pop(type_url))
            self._open.discard(changed)
            writing.cancel()

    async def _write(self, changed: asyncio.Event, context: Context) -> None:
        while True:
            await changed.wait()
            changed.clear()
            await context.write(self._newest)

    def push(self, raw: bytes) -> None:
        """Write ``raw`` to every stream."""
        self._newest = raw
        for changed in self._open:
            changed.set()


def fan(clusters: int) -> tuple[list[Resource], dict[tuple[str, int], list[Resource]]]:
    """Return a World for many light clients and its changes; the changed resource comes first."""
    whole = world(clusters)
    rest = [r for r in whole if r.type_url == CLUSTER and r.name != CHANGING]
    first = [r for r in whole if r.type_url != ENDPOINT or r.name == WATCHED]
    return first, {
        **{("endpoint", turn): [watched(turn)] for turn in (0, 1)},
        **{("cluster", turn): [changing(turn), *rest] for turn in (0, 1)},
    }


def site(
    port: int, one: int, two: int, hosts: int
) -> tuple[list[Resource], dict[tuple[str, int], list[Resource]]]:
    """Return a World for one Envoy that listens on ``port``.

    A change leads to the other backend: as other endpoints, or as the route of one of ``hosts``.
    """
    table = [many_routes(hosts, to, WATCHED) for to in (WATCHED, CHANGING)]
    ends = [endpoints(WATCHED, [to]) for to in (one, two)]
    first = [cluster(WATCHED), cluster(CHANGING), ends[0], endpoints(CHANGING, [two])]
    return [*first, listener(port), table[0]], {
        (what, turn): [given[turn]]
        for what, given in (("endpoint", ends), ("route", table))
        for turn in (0, 1)
    }


async def main(first: list[Resource], changes: dict[tuple[str, int], list[Resource]]) -> None:
    """Serve until stdin closes."""
    by_type = {t: [r for r in first if r.type_url == t] for t in TYPES}
    served = {
        variant: Bare({t.encode(): response(variant, each, "0") for t, each in by_type.items()})
        for variant in METHODS
    }
    ready = {
        (variant, *change): response(variant, given if variant == "sotw" else given[:1], "1")
        for variant in METHODS
        for change, given in changes.items()
    }
    server = grpc.aio.server(options=OPTIONS)
    methods = {
        METHODS[variant]: grpc.stream_stream_rpc_method_handler(bare.talk)
        for variant, bare in served.items()
    }
    handler = grpc.method_handlers_generic_handler(SERVICE, methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def push(variant: str, what: str, turn: int) -> float:
        began = time.perf_counter()
        served[variant].push(ready[variant, what, turn % 2])
        return began

    await answering({"port": lambda: port, "push": push})
    await server.stop(None)


if __name__ == "__main__":
    if "--rarely" in sys.argv:
        collect_rarely()
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    asyncio.run(main(*(fan(*numbers) if len(numbers) == 1 else site(*numbers))))
