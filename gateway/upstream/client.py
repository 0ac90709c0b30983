"""Requests to upstreams, over connections that are kept.

Source: RFC 9110, RFC 9112
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from multidict import CIMultiDict

from gateway.body import Body
from gateway.problem import Refused
from gateway.tasks import owned
from gateway.upstream.connection import Connection
from gateway.upstream.exchange import Exchange
from gateway.upstream.message import LAST_CHUNK, chunk, encoded
from gateway.upstream.pool import Place, Pool
from gateway.upstream.trouble import BrokenOff, Late
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
"""Most connections to one upstream; a request that finds none free waits within its timeout."""

IDLE_SECONDS = 30.0
"""How long an unused connection is kept."""

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""Methods of which a request may be sent twice (RFC 9110 section 9.2.2)."""

_STALE_TRIES = 3


class Client:
    """Sends requests; made by `Client.open`."""

    def __init__(self, group: asyncio.TaskGroup, tls: ssl.SSLContext) -> None:
        self._group, self._tls = group, tls
        self._pools: dict[Place, Pool] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, tls: ssl.SSLContext | None = None) -> AsyncIterator["Client"]:
        """Serve until the block ends, then hang up everywhere.

        Args:
            tls: How certificates of outside servers are verified; None is by the host's
                authorities.
        """
        async with owned() as group:
            self = cls(group, tls or ssl.create_default_context())
            sweeper = group.create_task(self._sweep(), name="gateway: close idle connections")
            try:
                yield self
            finally:
                sweeper.cancel()
                for pool in self._pools.values():
                    pool.close()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return sum(pool.size for pool in self._pools.values())

    async def exchange(
        self,
        place: Place,
        method: str,
        target: str,
        *,
        host: str,
        headers: CIMultiDict[str],
        body: Body | bytes,
        seconds: float,
        upgrade: str | None = None,
    ) -> Exchange:
        """Send a request and return once the head of its answer is here.

        The caller closes the exchange, whatever happens after.

        Args:
            place: The upstream.
            method: A token.
            target: In origin form.
            host: What stands in the ``Host`` field.
            headers: All other fields.
            body: All of it, or where it comes from.
            seconds: Within which the answer must begin.
            upgrade: Protocol to change to, or None.

        Raises:
            NoConnection: The upstream cannot be reached.
            UpstreamError: It gave no answer, or none in time.
            Refused: The body cannot be passed on; 408, it did not come in time.
        """
        whole = body if isinstance(body, bytes) else b"" if body.empty else body.arrived()
        length = len(whole) if whole is not None else body.length  # type: ignore[union-attr]
        head = encoded(method, target, host, headers, length=length, upgrade=upgrade)
        first = head + whole if whole else head
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        pool = self._pool(place)
        for tried in range(1, _STALE_TRIES + 1):
            connection = pool.taken()
            if connection is None:
                connection = await pool.connection(max(0.0, end - loop.time()))
            fresh = connection.used == 0
            exchange = connection.begin(method, first, whole=whole is not None, switches=upgrade)
            if whole is None:
                exchange.sender = self._group.create_task(
                    _sent(connection, exchange, body, chunked=length is None),  # type: ignore[arg-type]
                    name="gateway: send a body",
                )
            try:
                await exchange.head(max(0.0, end - loop.time()))
            except BrokenOff as broken:
                exchange.close()
                stale = broken.silent and not fresh and tried < _STALE_TRIES
                if stale and whole is not None and method in REPEATABLE:
                    continue
                raise
            except Late:
                waits = _waits_for_client(connection, exchange)
                exchange.close()
                if waits:
                    detail = f"The body did not come within {seconds:g} s."
                    raise Refused(HTTPStatus.REQUEST_TIMEOUT, detail) from None
                raise Late(str(place), seconds) from None
            except BaseException:
                exchange.close()
                raise
            return exchange
        raise AssertionError("the last try returns or raises")

    def _pool(self, place: Place) -> Pool:
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = Pool(
                place, most=MAX_CONNECTIONS, idle_seconds=IDLE_SECONDS, tls=self._tls
            )
        return pool

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            for place, pool in tuple(self._pools.items()):
                pool.close_idle(loop.time())
                if pool.unused:
                    del self._pools[place]


def _waits_for_client(connection: Connection, exchange: Exchange) -> bool:
    """Return whether it is the request that is late, so that the upstream is not to blame."""
    sender = exchange.sender
    return sender is not None and not sender.done() and not connection.full


async def _sent(connection: Connection, exchange: Exchange, body: Body, *, chunked: bool) -> None:
    """Send a body as it comes; what goes wrong is told to who waits for the answer."""
    try:
        async for piece in body.chunks():
            if piece:
                connection.write(chunk(piece) if chunked else piece)
                await connection.drained()
    except (WherryError, OSError) as error:
        exchange.fail(error)
        return
    except Exception as error:
        logger.exception("body not sent")
        exchange.fail(error)
        return
    if not chunked and body.size != body.length:
        exchange.fail(Refused(HTTPStatus.BAD_REQUEST, "The body is shorter than it says."))
        return
    connection.write(LAST_CHUNK if chunked else b"", last=True)
