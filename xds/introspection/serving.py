"""gRPC health checking: whether the port and each service on it answer.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import Iterable

import grpc
import grpc.aio

from xds.introspection import wire
from xds.introspection.wire import ServingStatus

SERVICE = "grpc.health.v1.Health"

WATCHERS = 1_000
"""Most Watch calls at once; more are refused with RESOURCE_EXHAUSTED."""

Context = grpc.aio.ServicerContext[bytes, bytes]


class Serving:
    """Tells who asks whether ``services`` answer; all do until told otherwise.

    Args:
        services: Full names; the server as a whole, the empty name, is always known too.
        watchers: Most Watch calls at once.
    """

    def __init__(self, services: Iterable[str], *, watchers: int = WATCHERS) -> None:
        self._statuses = dict.fromkeys(("", *services), ServingStatus.SERVING)
        self._most = watchers
        self._watchers: set[asyncio.Event] = set()
        self._draining = False

    def set(self, service: str, *, serving: bool) -> None:
        """Say whether ``service`` answers; without effect once `drain` was called."""
        if not self._draining:
            self._put([service], serving=serving)

    def drain(self) -> None:
        """Say from now on that nothing here answers: the server is about to stop."""
        self._draining = True
        self._put(self._statuses, serving=False)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route calls here."""
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "List": grpc.unary_unary_rpc_method_handler(self._list),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _put(self, services: Iterable[str], *, serving: bool) -> None:
        status = ServingStatus.SERVING if serving else ServingStatus.NOT_SERVING
        self._statuses |= dict.fromkeys(services, status)
        for watcher in self._watchers:
            watcher.set()

    async def _check(self, raw: bytes, context: Context) -> bytes:
        service = await _service(raw, context)
        status = self._statuses.get(service)
        if status is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"service {service!r}: unknown, expected one of ours"
            )
        return wire.status_bytes(status)

    async def _list(self, _raw: bytes, _context: Context) -> bytes:
        return wire.statuses_bytes(self._statuses)

    async def _watch(self, raw: bytes, context: Context) -> None:
        service = await _service(raw, context)
        if len(self._watchers) >= self._most:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"watch: {len(self._watchers)} others, expected fewer than {self._most}",
            )
        changed, told = asyncio.Event(), None
        self._watchers.add(changed)
        try:
            while True:
                changed.clear()
                status = self._statuses.get(service, ServingStatus.SERVICE_UNKNOWN)
                if status is not told:
                    await context.write(wire.status_bytes(status))
                    told = status
                await changed.wait()
        finally:
            self._watchers.discard(changed)


async def _service(raw: bytes, context: Context) -> str:
    try:
        return wire.service_from(raw)
    except wire.BadQuestion as error:
        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
