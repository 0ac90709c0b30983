"""Every discovery stream of one server, and discovery by single requests."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from wherry.clock import Clock
from wherry.errors import WherryError
from xds import wire
from xds.delta import DeltaRequest
from xds.hub import Hub
from xds.limits import Limits
from xds.node import Node
from xds.pace import Pace
from xds.resource import TypeUrl
from xds.services import AGGREGATED, SERVICES, DiscoveryService
from xds.sotw import Request, SotwStream
from xds.status import StreamStatus
from xds.talk import Context, Refused, Setting, Talk
from xds.tally import Tally

__all__ = ["SERVICE", "Limits", "Streams"]

logger = logging.getLogger(__name__)

SERVICE = AGGREGATED.name

QUIET_SECONDS = 1.0
"""How long refusals for the same reason are counted but not logged after one was."""
HANDED_OVER_A_SECOND = 100
"""How many streams end in a second while there is time for so few."""


class Streams:
    """Every discovery stream of one server.

    Args:
        hub: Says what each node gets.
        clock: Where times are read.
        limits: See `Limits`.
        origin: See `Setting`.

    Attributes:
        tally: What was done so far.
    """

    def __init__(
        self,
        hub: Hub[Any],
        clock: Clock,
        limits: Limits,
        origin: Callable[[str, str], str] | None = None,
    ) -> None:
        self._hub, self._limits = hub, limits
        self.tally = Tally()
        self._setting = Setting(limits, clock, self.tally, origin)
        self._open: set[Talk] = set()
        self._calls = 0
        self._by_node: Counter[str] = Counter()
        self._pace = Pace(limits.streams_per_node, limits.openings_per_second)
        self._said: dict[str, float] = {}

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a gRPC server needs to route discovery here."""
        return tuple(map(self._handler, SERVICES))

    def talks(self) -> tuple[Talk, ...]:
        """Return every stream whose client has said who it is."""
        return tuple(self._open)

    def status(self) -> tuple[StreamStatus, ...]:
        """Return every stream that has said who it is, sorted by node id."""
        return tuple(
            sorted((talk.status() for talk in self._open), key=lambda s: (s.node.id, s.service))
        )

    async def hand_over(self, seconds: float) -> None:
        """End every stream, one by one, so that clients do not come back all at once.

        It takes ``seconds``, or less where `HANDED_OVER_A_SECOND` are enough.
        """
        talks = list(self._open)
        random.shuffle(talks)
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause = min(seconds / max(len(talks), 1), 1 / HANDED_OVER_A_SECOND)
        for turn, talk in enumerate(talks, 1):
            talk.end()
            await asyncio.sleep(began + turn * pause - loop.time())
        for talk in self._open:
            talk.end()

    def fetch(self, raw: bytes, type_url: TypeUrl) -> bytes | None:
        """Answer one request by one response, as a DiscoveryResponse.

        Returns:
            None when the client has the newest version already.

        Raises:
            WherryError: The request cannot be read, or nobody knows what its node gets.
        """
        request, node = wire.request_from(raw)
        if node is None or not node.id:
            raise wire.BadRequest("request: no node, expected a node with id")
        if request.type_url not in ("", type_url):
            raise wire.BadRequest(f"request: type_url {request.type_url!r}, expected {type_url!r}")
        with self._hub.joined(node) as link:
            snapshot = link.snapshot
            if snapshot is None:
                return None
            stream = SotwStream(link.press)
            stream.publish(snapshot)
            ask = Request(type_url, request.names)
            responses = stream.receive(ask)
        self.tally.requests += 1
        if not responses or (request.version and responses[0].version == request.version):
            return None
        self.tally.pushes[type_url] += 1
        return responses[0].raw

    def _handler(self, service: DiscoveryService) -> grpc.GenericRpcHandler:
        async def stream(_requests: object, context: Context) -> None:
            await self._served(service, context, delta=False)

        async def delta(_requests: object, context: Context) -> None:
            await self._served(service, context, delta=True)

        async def fetch(raw: bytes, context: Context) -> bytes:
            return await self._fetched(service, raw, context)

        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            service.delta: grpc.stream_stream_rpc_method_handler(delta)
        }
        if service.stream:
            methods[service.stream] = grpc.stream_stream_rpc_method_handler(stream)
        if service.fetch:
            methods[service.fetch] = grpc.unary_unary_rpc_method_handler(fetch)
        return grpc.method_handlers_generic_handler(service.name, methods)

    async def _fetched(self, service: DiscoveryService, raw: bytes, context: Context) -> bytes:
        type_url = service.type_url
        try:
            body = None if type_url is None else self.fetch(raw, type_url)
        except WherryError as error:
            await self._ended(error, context)
            raise
        if body is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing newer")
            raise AssertionError("unreachable: abort raises")
        return body

    async def _served(self, service: DiscoveryService, context: Context, *, delta: bool) -> None:
        self._calls += 1
        try:
            if self._calls > self._limits.streams:
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "too many streams",
                    f"streams: over {self._limits.streams}, expected at most that",
                )
            await self._talked(service, context, delta=delta)
        except WherryError as error:
            await self._ended(error, context)
        finally:
            self._calls -= 1

    async def _ended(self, error: WherryError, context: Context) -> None:
        code, reason = grpc.StatusCode.INVALID_ARGUMENT, "bad request"
        if isinstance(error, Refused):
            code, reason = error.code, error.reason
        self.tally.refused[reason] += 1
        now = self._setting.clock.now()
        if reason != "handed over" and now >= self._said.get(reason, now):
            self._said[reason] = now + QUIET_SECONDS
            logger.warning("stream refused", extra={"reason": str(error), "peer": context.peer()})
        await context.abort(code, str(error))

    async def _talked(self, service: DiscoveryService, context: Context, *, delta: bool) -> None:
        raw = await self._first(context)
        if raw is None:
            return
        request, node = (wire.delta_request_from if delta else wire.request_from)(raw)
        request = wire.retyped(request, service.type_url)
        if node is None or not node.id:
            raise wire.BadRequest("stream: first request without a node, expected a node with id")
        with self._counted(node.id):
            if wait := self._pace.wait(node.id, self._setting.clock.now()):
                self.tally.delayed += 1
                await asyncio.sleep(wait)
            await self._joined(service, node, request, context, delta=delta)

    async def _joined(
        self,
        service: DiscoveryService,
        node: Node,
        request: Request | DeltaRequest,
        context: Context,
        *,
        delta: bool,
    ) -> None:
        with self._hub.joined(node) as link:
            talk = Talk(service, link, context, self._setting, delta=delta)
            self._open.add(talk)
            self.tally.opened[service.short, "delta" if delta else "sotw"] += 1
            try:
                await talk.run(request)
            finally:
                self._open.discard(talk)

    async def _first(self, context: Context) -> bytes | None:
        seconds = self._limits.first_request_seconds
        try:
            async with asyncio.timeout(seconds):
                raw = await context.read()
        except TimeoutError:
            raise Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "silent",
                f"stream: silent for {seconds} s, expected a request",
            ) from None
        return raw if isinstance(raw, bytes) else None

    @contextmanager
    def _counted(self, node: str) -> Iterator[None]:
        most = self._limits.streams_per_node
        if self._by_node[node] >= most:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many streams of a node",
                f"node {node!r}: over {most} streams, expected at most that",
            )
        self._by_node[node] += 1
        try:
            yield
        finally:
            self._by_node[node] -= 1
            if not self._by_node[node]:
                del self._by_node[node]
