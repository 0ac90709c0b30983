"""The Pilot's port: discovery, registration and what else there is, over one gRPC server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import grpc.aio

from wherry.clock import Clock, SystemClock
from wherry.serve import Address, grpc_listening
from xds import wire
from xds.heartbeat import SERVICE as REGISTRY
from xds.http2 import server as http2
from xds.hub import Hub
from xds.introspection.port import introspection
from xds.limits import Limits
from xds.registrations import Registry
from xds.status import StreamStatus
from xds.streams import Streams
from xds.workload import BadWorkload

_GRACE = 0.1
_SPARE_CALLS = 100
_LEAST_PING_MS = 5_000

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Server:
    """A Pilot that answers.

    Attributes:
        address: Where it listens.
        discovery: Every stream, and what was done so far.
    """

    address: Address
    discovery: Streams

    def streams(self) -> tuple[StreamStatus, ...]:
        """Return every connected stream, sorted by node id."""
        return self.discovery.status()


@dataclass(frozen=True, slots=True)
class Serving:
    """How a server serves.

    Attributes:
        limits: What it takes on.
        share: Whether other processes serve at the same address; the kernel deals connections
            out among them.
        handover_seconds: How long it takes to end its streams when it stops, one by one, so that
            clients do not come back all at once; 0: at once.
        transport: What carries gRPC: ``grpc``, its own library, or ``http2``, a shell of ours
            that is faster and smaller, and younger.
    """

    limits: Limits = field(default_factory=Limits)
    share: bool = False
    handover_seconds: float = 0.0
    transport: Literal["grpc", "http2"] = "grpc"


@asynccontextmanager
async def serving(
    address: Address,
    hub: Hub[Any],
    registry: Registry,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
    how: Serving | None = None,
    services: Sequence[grpc.GenericRpcHandler] = (),
    origin: Callable[[str, str], str] | None = None,
) -> AsyncIterator[Server]:
    """Serve discovery and registration at ``address`` until the block ends.

    Args:
        address: Where; keep it on loopback or a trusted network.
        hub: Says what each node gets.
        registry: Takes registrations.
        clock: Where connection times are read; None is the host's.
        limits: None is the default, or what ``how`` says.
        how: None is the default.
        services: More gRPC services for the same port.
        origin: Says where a resource of the World was written, by kind and name, for the log.

    Raises:
        PortInUse: Another program listens there.
    """
    how = how or Serving()
    limits, clock = limits or how.limits, clock or SystemClock()
    discovery = Streams(hub, clock, limits, origin)
    handlers = (*discovery.handlers(), _registry_handler(registry), *services)
    more, health = introspection(handlers)

    async def end() -> None:
        health.drain()
        if how.handover_seconds:
            await discovery.hand_over(how.handover_seconds)

    if how.transport == "http2":
        served = http2.serving(
            address, (*handlers, *more), clock=clock, limits=limits, share=how.share, ending=end
        )
    else:
        served = _on_grpc(address, (*handlers, *more), limits, how, end)
    async with served as where:
        yield Server(where, discovery)


@asynccontextmanager
async def _on_grpc(
    address: Address,
    handlers: Sequence[grpc.GenericRpcHandler],
    limits: Limits,
    how: Serving,
    end: Callable[[], Awaitable[None]],
) -> AsyncIterator[Address]:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", int(how.share)),
            ("grpc.max_concurrent_streams", limits.streams + _SPARE_CALLS),
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_metadata_size", limits.metadata_bytes),
            ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 1000)),
            ("grpc.server.max_pending_requests", limits.streams),
            ("grpc.server.max_pending_requests_hard_limit", 2 * limits.streams),
            ("grpc.keepalive_time_ms", int(limits.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout_seconds * 1000)),
            ("grpc.http2.ping_timeout_ms", int(limits.keepalive_timeout_seconds * 1000)),
            ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),
        ]
    )
    server.add_generic_rpc_handlers(tuple(handlers))
    where = grpc_listening("xds", address, server, share=how.share)
    await server.start()
    try:
        yield where
    finally:
        async with asyncio.TaskGroup() as group:
            # From now on new streams go elsewhere; those that are here end one by one.
            stopping = server.stop(grace=how.handover_seconds + _GRACE)
            group.create_task(stopping, name="xds/stopping")
            await asyncio.sleep(0)
            await end()
            await server.stop(grace=_GRACE)


def _registry_handler(registry: Registry) -> grpc.GenericRpcHandler:
    async def register(raw: bytes, context: Context) -> bytes:
        try:
            workload, seconds = wire.registration_from(raw)
            return wire.registered_bytes(await registry.register(workload, seconds))
        except (BadWorkload, wire.BadRequest) as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def deregister(raw: bytes, context: Context) -> bytes:
        try:
            removed = await registry.deregister(*wire.deregistration_from(raw))
            return wire.deregistered_bytes(removed=removed)
        except (BadWorkload, wire.BadRequest) as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Register": grpc.unary_unary_rpc_method_handler(register),
        "Deregister": grpc.unary_unary_rpc_method_handler(deregister),
    }
    return grpc.method_handlers_generic_handler(REGISTRY, methods)
