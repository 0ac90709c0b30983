"""The Pilot's port: discovery streams and the workload registry over one gRPC server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from wherry.clock import Clock, SystemClock
from wherry.serve import Address, grpc_listening
from xds import wire
from xds.heartbeat import SERVICE as REGISTRY
from xds.hub import Hub
from xds.registrations import Registry
from xds.status import StreamStatus
from xds.streams import Limits, Streams
from xds.workload import BadWorkload

_GRACE = 0.1
_SPARE_CALLS = 100
_KEEPALIVE_MS, _KEEPALIVE_TIMEOUT_MS, _LEAST_PING_MS = 30_000, 10_000, 5_000

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Server:
    """A Pilot that answers.

    Attributes:
        address: Where it listens.
        streams: Returns every connected stream, sorted by node id.
    """

    address: Address
    streams: Callable[[], tuple[StreamStatus, ...]]


@asynccontextmanager
async def serving(
    address: Address,
    hub: Hub[Any],
    registry: Registry,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Server]:
    """Serve discovery and registration at ``address`` until the block ends.

    Args:
        address: Where; keep it on loopback or a trusted network.
        hub: Says what each node gets.
        registry: Takes registrations.
        clock: Where connection times are read; None is the host's.
        limits: None is the default.

    Raises:
        PortInUse: Another program listens there.
    """
    limits = limits or Limits()
    streams = Streams(hub, clock or SystemClock(), limits)
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", limits.streams + _SPARE_CALLS),
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_metadata_size", limits.metadata_bytes),
            ("grpc.server.max_pending_requests", limits.streams),
            ("grpc.server.max_pending_requests_hard_limit", 2 * limits.streams),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),
        ]
    )
    server.add_generic_rpc_handlers((streams.handler(), _registry_handler(registry)))
    where = grpc_listening("xds", address, server)
    await server.start()
    try:
        yield Server(where, streams.status)
    finally:
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
