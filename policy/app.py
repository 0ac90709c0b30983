"""Wire the policy service together and run it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio

from policy.admission import Admission
from policy.decision import Verdict
from policy.server import Authorization
from wherry.config.watch import Worlds
from wherry.serve import Address, grpc_listening


@dataclass(frozen=True, slots=True)
class Settings:
    """How the policy service runs.

    Attributes:
        address: Where Envoys ask; keep it on loopback or a trusted network.
        max_message_bytes: Larger CheckRequests are refused; Envoy sends headers, no bodies.
        max_calls: Checks in progress at once; more are refused at once, so Envoy denies.
    """

    address: Address = field(default_factory=Address)
    max_message_bytes: int = 256 << 10
    max_calls: int = 1024


@dataclass(frozen=True, slots=True)
class Running:
    """A policy service that answers.

    Attributes:
        address: Where it listens.
        collect: Returns how often each rule decided what, see `policy.tally.Tally.collect`.
    """

    address: Address
    collect: Callable[[], Mapping[tuple[str, Verdict], int]]


@asynccontextmanager
async def running(
    settings: Settings, *, worlds: Worlds, admission: Admission | None = None
) -> AsyncIterator[Running]:
    """Decide by the current World of ``worlds`` until the block ends.

    Args:
        settings: See `Settings`.
        worlds: Holds the check policies.
        admission: Knows the products that sidecars enforce; None: what they guard is refused.

    Raises:
        PortInUse: Another program listens at the address.
    """
    authorization = Authorization(worlds, admission)
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_metadata_size", settings.max_message_bytes),
            ("grpc.max_concurrent_streams", settings.max_calls),
        ],
        maximum_concurrent_rpcs=settings.max_calls,
    )
    server.add_generic_rpc_handlers((authorization.handler(),))
    address = grpc_listening("policy", settings.address, server)
    await server.start()
    try:
        yield Running(address, authorization.tally.collect)
    finally:
        await server.stop(grace=None)
