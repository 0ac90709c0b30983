"""Requests to services of the mesh and to outside servers, streamed both ways."""

import logging
import re
from collections.abc import Awaitable
from http import HTTPStatus
from pathlib import Path

from multidict import CIMultiDict

from gateway import fields, websocket
from gateway.body import Body
from gateway.call import Answer
from gateway.catalogue.target import Upstream
from gateway.problem import Refused, out_of_capacity
from gateway.upstream.client import Client
from gateway.upstream.exchange import Exchange
from gateway.upstream.pool import Place
from gateway.upstream.trouble import Late, NoConnection, UpstreamError
from gateway.websocket import Switched, Tunnel

logger = logging.getLogger(__name__)

TUNNEL_SECONDS = 300.0
"""How long a WebSocket may be silent."""

_REASON = re.compile(r"[\t\x20-\x7e]{1,200}")


class Proxy:
    """The way to services and outside servers.

    Args:
        client: Sends the requests.
        mesh: Unix socket of the outbound listener of the gateway's Envoy, which need not exist
            yet; None: services are out of reach.
    """

    def __init__(self, client: Client, mesh: Path | None) -> None:
        self._client = client
        self._mesh = None if mesh is None else Place(unix=str(mesh))

    async def pass_on(
        self,
        upstream: Upstream,
        method: str,
        path: str,
        query: str,
        *,
        headers: CIMultiDict[str],
        body: Body | bytes,
        seconds: float,
        upgrade: bool = False,
    ) -> Answer:
        """Send a request and return its answer, whose body comes as the upstream sends it.

        Args:
            upstream: A service or an outside server.
            method: As received.
            path: As the upstream sees it, escaped.
            query: Raw.
            headers: See `fields.onward`.
            body: Sent on while it is received.
            seconds: That the answer may take to begin, and that may pass between two pieces of
                it until the client took them; a stream that goes on may last for ever.
            upgrade: Whether to ask for a WebSocket.

        Raises:
            Refused: 413, 502, 503 or 504.
        """
        try:
            exchange = await self.exchange(
                upstream, method, path, query,
                headers=headers, body=body, seconds=seconds,
                upgrade=websocket.PROTOCOL if upgrade else None,
            )  # fmt: skip
        except UpstreamError as error:
            raise refused(error, seconds) from None
        return answered(exchange, seconds)

    def exchange(
        self,
        upstream: Upstream,
        method: str,
        path: str,
        query: str,
        *,
        headers: CIMultiDict[str],
        body: Body | bytes,
        seconds: float,
        upgrade: str | None = None,
    ) -> Awaitable[Exchange]:
        """Send a request, once it is awaited; see `Client.exchange`.

        Raises:
            Refused: 503, there is no mesh.
            UpstreamError: No answer came.
        """
        origin = upstream.origin
        if origin is not None:
            place = Place(host=origin.host, port=origin.port, secure=origin.secure)
            host, path = origin.authority, origin.base + path
        elif self._mesh is None:
            raise out_of_capacity("This gateway is not connected to the mesh.")
        else:
            place, host = self._mesh, upstream.service or ""
        return self._client.exchange(
            place,
            method,
            f"{path}?{query}" if query else path,
            host=host,
            headers=headers,
            body=body,
            seconds=seconds,
            upgrade=upgrade,
        )


class Pieces:
    """The rest of an answer, as it comes.

    Args:
        exchange: Whose; closed at the end.
        seconds: That may pass between two pieces.
    """

    __slots__ = ("_exchange", "_seconds")

    def __init__(self, exchange: Exchange, seconds: float) -> None:
        self._exchange, self._seconds = exchange, seconds

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes.

        Raises:
            UpstreamError: The answer broke off.
        """
        piece = await self._exchange.piece(self._seconds)
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Take no more of it."""
        self._exchange.close()


def answered(exchange: Exchange, seconds: float) -> Answer:
    """Return the answer that ``exchange`` is."""
    headers = fields.back(exchange.fields)
    reason = exchange.reason if _REASON.fullmatch(exchange.reason) else None
    if exchange.status == websocket.SWITCHING:
        tunnel = Tunnel(exchange, TUNNEL_SECONDS)
        return Switched(exchange.status, headers, tunnel, reason, tunnel)
    whole = exchange.whole()
    if whole is not None:
        exchange.close()
        return Answer(exchange.status, headers, whole, reason)
    return Answer(exchange.status, headers, Pieces(exchange, seconds), reason)


def refused(error: UpstreamError, seconds: float) -> Refused:
    """Return what the client is told of ``error``."""
    if isinstance(error, Late):
        return Refused(HTTPStatus.GATEWAY_TIMEOUT, f"No answer came within {seconds:g} s.")
    if isinstance(error, NoConnection):
        return out_of_capacity("The upstream cannot be reached.")
    logger.debug("upstream failed", extra={"cause": str(error)})
    return Refused(HTTPStatus.BAD_GATEWAY, "The upstream gave no valid answer.")
