"""The two discovery streams over grpc.aio: bytes in, a sans-IO stream, bytes out."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from wherry.clock import Clock
from wherry.errors import WherryError
from xds import wire
from xds.delta import DeltaStream
from xds.hub import Hub, Link
from xds.ledger import Nack
from xds.node import Node
from xds.resource import TypeUrl
from xds.sotw import SotwStream
from xds.status import StreamStatus, types_of

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on.

    Attributes:
        streams: Most discovery streams at once; more are refused with RESOURCE_EXHAUSTED.
        types: Most resource types on one stream.
        names: Most resource names that one stream asks for, all types together.
        message_bytes: Longest request.
        metadata_bytes: Longest gRPC metadata of a call.
        first_request_seconds: Longest that a new stream may stay silent.
    """

    streams: int = 10_000
    types: int = 32
    names: int = 50_000
    message_bytes: int = 4 << 20
    metadata_bytes: int = 16 << 10
    first_request_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class _Variant:
    name: str
    stream: Callable[[], SotwStream | DeltaStream]
    read: Callable[[bytes], tuple[Any, Node | None]]
    write: Callable[[Any], bytes]


_SOTW = _Variant("sotw", SotwStream, wire.request_from, wire.response_bytes)
_DELTA = _Variant("delta", DeltaStream, wire.delta_request_from, wire.delta_response_bytes)


class Refused(WherryError):
    """A stream is ended because of what its client did or because the server is full."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Streams:
    """Every discovery stream of one server.

    Args:
        hub: Says what each node gets.
        clock: Where connection times are read.
        limits: See `Limits`.
    """

    def __init__(self, hub: Hub[Any], clock: Clock, limits: Limits) -> None:
        self._hub, self._clock, self._limits = hub, clock, limits
        self._open: set[_Talk] = set()
        self._calls = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route streams here."""
        sotw: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._sotw
        )
        delta: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._delta
        )
        methods = {"StreamAggregatedResources": sotw, "DeltaAggregatedResources": delta}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def status(self) -> tuple[StreamStatus, ...]:
        """Return every stream that has said who it is, sorted by node id."""
        return tuple(sorted((talk.status() for talk in self._open), key=lambda s: s.node.id))

    async def _sotw(self, _requests: object, context: Context) -> None:
        await self._served(_SOTW, context)

    async def _delta(self, _requests: object, context: Context) -> None:
        await self._served(_DELTA, context)

    async def _served(self, variant: _Variant, context: Context) -> None:
        self._calls += 1
        try:
            if self._calls > self._limits.streams:
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"streams: over {self._limits.streams}, expected at most that",
                )
            await self._talked(variant, context)
        except WherryError as error:
            code = error.code if isinstance(error, Refused) else grpc.StatusCode.INVALID_ARGUMENT
            logger.warning("stream refused", extra={"reason": str(error), "peer": context.peer()})
            await context.abort(code, str(error))
        finally:
            self._calls -= 1

    async def _talked(self, variant: _Variant, context: Context) -> None:
        try:
            async with asyncio.timeout(self._limits.first_request_seconds):
                raw = await context.read()
        except TimeoutError:
            raise Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"stream: silent for {self._limits.first_request_seconds} s, expected a request",
            ) from None
        if not isinstance(raw, bytes):
            return
        request, node = variant.read(raw)
        if node is None or not node.id:
            raise wire.BadRequest("stream: first request without a node, expected a node with id")
        with self._hub.joined(node) as link:
            talk = _Talk(variant, link, context, self._limits, self._clock.unix_ns())
            self._open.add(talk)
            try:
                await talk.run(request)
            finally:
                self._open.discard(talk)


class _Talk:
    """One stream: what its client says and what the hub publishes, one at a time."""

    def __init__(
        self, variant: _Variant, link: Link[Any], context: Context, limits: Limits, since: int
    ) -> None:
        self._variant, self._link, self._context = variant, link, context
        self._limits, self._since = limits, since
        self._stream: Any = variant.stream()
        self._turn = asyncio.Lock()
        self._logged: dict[TypeUrl, Nack] = {}

    def status(self) -> StreamStatus:
        return StreamStatus(
            self._link.node,
            self._link.scope,
            self._variant.name,
            self._since,
            self._stream.settled and not self._link.changed.is_set(),
            types_of(self._stream.subscriptions),
        )

    async def run(self, first: Any) -> None:
        """Talk until the client hangs up.

        Raises:
            WherryError: The client sent what cannot be read or is over a limit.
        """
        node = self._link.node.id
        refusal: WherryError | None = None
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(self._publish(), name=f"publish to {node}")
            try:
                await self._listen(first)
            except WherryError as error:
                refusal = error
            publishing.cancel()
        if refusal is not None:
            raise refusal

    async def _listen(self, first: Any) -> None:
        request = first
        while True:
            async with self._turn:
                await self._send(self._stream.receive(request))
            self._within_limits()
            self._log_nacks()
            raw = await self._context.read()
            if not isinstance(raw, bytes):
                return
            request, _ = self._variant.read(raw)

    async def _publish(self) -> None:
        while True:
            await self._link.changed.wait()
            async with self._turn:
                self._link.changed.clear()
                if (snapshot := self._link.snapshot) is not None:
                    await self._send(self._stream.publish(snapshot))

    async def _send(self, responses: list[Any]) -> None:
        for response in responses:
            await self._context.write(self._variant.write(response))

    def _within_limits(self) -> None:
        subscriptions = self._stream.subscriptions
        names = sum(len(s.names) for s in subscriptions.values())
        for what, found, most in (
            ("types", len(subscriptions), self._limits.types),
            ("resource names", names, self._limits.names),
        ):
            if found > most:
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"node {self._link.node.id!r}: {found} {what}, expected at most {most}",
                )

    def _log_nacks(self) -> None:
        nacks = dict(self._stream.nacks)
        for type_url, nack in nacks.items():
            if self._logged.get(type_url) != nack:
                logger.warning(
                    "configuration refused",
                    extra={
                        "node": self._link.node.id,
                        "type_url": type_url,
                        "resources": nack.names,
                        "reason": nack.error,
                    },
                )
        for type_url in self._logged.keys() - nacks.keys():
            logger.info(
                "configuration accepted again",
                extra={"node": self._link.node.id, "type_url": type_url},
            )
        self._logged = nacks
