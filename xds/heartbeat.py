"""The client's side of the workload registry: register, keep alive, deregister."""

import asyncio
import logging
from contextlib import suppress

import grpc
import grpc.aio

from wherry.errors import StartError
from xds import wire
from xds.workload import Workload

logger = logging.getLogger(__name__)

SERVICE = "wherry.registry.v1.WorkloadRegistry"
CALL_SECONDS = 5.0
"""Longest that one call to the registry may take."""
FAREWELL_SECONDS = 1.0
"""Longest that deregistering at the end may take."""

_REFUSED = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED})
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000))


class RegistrationRefused(StartError):
    """The registry answered that it will never take this registration."""


async def register(channel: grpc.aio.Channel, workload: Workload, ttl_seconds: int) -> int:
    """Register ``workload`` for ``ttl_seconds`` (1 to 300); return when that ends, in Unix ns.

    Raises:
        grpc.aio.AioRpcError: The registry refused it or did not answer.
    """
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/{SERVICE}/Register"
    )
    raw = await call(wire.registration_bytes(workload, ttl_seconds), timeout=CALL_SECONDS)
    return wire.registered_from(raw)


async def deregister(
    channel: grpc.aio.Channel, workload: Workload, *, seconds: float = CALL_SECONDS
) -> bool:
    """End the registration of ``workload``; return whether there was one.

    Raises:
        grpc.aio.AioRpcError: The registry did not answer within ``seconds``.
    """
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/{SERVICE}/Deregister"
    )
    raw = await call(wire.deregistration_bytes(workload.service, workload.id), timeout=seconds)
    return wire.deregistered_from(raw)


async def heartbeat(address: str, workload: Workload, *, ttl_seconds: int = 15) -> None:
    """Keep ``workload`` registered at ``address`` (HOST:PORT) until cancelled, then deregister.

    A registry that does not answer is tried again every third of the time to live, at least each
    second; the loss and the return are each logged once.

    Raises:
        RegistrationRefused: The registry will not take it, so that trying again is of no use.
    """
    period = ttl_seconds / 3
    connected = True
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            while True:
                try:
                    await register(channel, workload, ttl_seconds)
                except grpc.aio.AioRpcError as error:
                    if error.code() in _REFUSED:
                        raise RegistrationRefused(
                            f"registration of {workload.id} at {address}: {error.details()}"
                        ) from None
                    if connected:
                        logger.warning(
                            "registry lost at %s, trying again: %s",
                            address,
                            error.details() or error.code().name,
                        )
                    connected = False
                else:
                    if not connected:
                        logger.info("registry found again at %s", address)
                    connected = True
                await asyncio.sleep(period if connected else min(period, 1.0))
        finally:
            await _farewell(channel, workload)


async def _farewell(channel: grpc.aio.Channel, workload: Workload) -> None:
    """Deregister, for at most `FAREWELL_SECONDS`, however often our task is cancelled meanwhile.

    A second cancellation is usual: first the program ends, then what ran beside it. Without this
    the member would stay in the mesh until its time to live ends.
    """
    loop = asyncio.get_running_loop()
    leaving = loop.create_task(
        deregister(channel, workload, seconds=FAREWELL_SECONDS), name="deregister"
    )
    while not leaving.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({leaving})
    with suppress(grpc.aio.AioRpcError):
        leaving.result()
