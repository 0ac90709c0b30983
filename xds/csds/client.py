"""Ask a management server, or a gRPC client that serves it, for client status."""

from collections.abc import Iterable

import grpc.aio

from xds.csds import wire
from xds.csds.fleet import Proxy
from xds.csds.server import SERVICE

CALL_SECONDS = 10.0
"""Longest that one question may take."""


async def fetch(
    channel: grpc.aio.Channel,
    ids: Iterable[str] = (),
    *,
    contents: bool = False,
    seconds: float = CALL_SECONDS,
) -> tuple[Proxy, ...]:
    """Return the discovery streams of the nodes with these ``ids``; without ids, of all.

    Args:
        channel: To whoever serves client status.
        ids: Exact node ids.
        contents: Whether resources come with their bodies.
        seconds: Longest to wait.

    Raises:
        grpc.aio.AioRpcError: It was refused, or not answered in time; RESOURCE_EXHAUSTED asks
            for a narrower question.
        BadQuery: The answer is none.
    """
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/{SERVICE}/FetchClientStatus"
    )
    raw = await call(wire.query_bytes(ids, contents=contents), timeout=seconds)
    return wire.proxies_from(raw)
