"""Connections to one upstream, kept open between exchanges."""

import asyncio
import ssl
from collections import deque
from typing import NamedTuple

from gateway.upstream.connection import Connection
from gateway.upstream.trouble import Late, NoConnection


class Place(NamedTuple):
    """Where an upstream listens.

    Attributes:
        unix: Path of a unix socket; None: ``host`` and ``port`` say where.
        host: Name or address.
        port: 1 to 65535.
        secure: Whether it speaks TLS, with a certificate for ``host``.
    """

    unix: str | None = None
    host: str = ""
    port: int = 0
    secure: bool = False

    def __str__(self) -> str:
        return "mesh" if self.unix is not None else f"{self.host}:{self.port}"


class Pool:
    """Connections to one place: the one that was used last is used first.

    Args:
        place: Where.
        most: Connections at once; who finds none free waits, in order, within its time.
        idle_seconds: After which an unused connection is closed.
        tls: For places that speak it.
    """

    def __init__(
        self, place: Place, *, most: int, idle_seconds: float, tls: ssl.SSLContext | None
    ) -> None:
        self._place, self._name = place, str(place)
        self._most, self._idle_seconds = most, idle_seconds
        self._tls = tls
        self._idle: list[tuple[Connection, float]] = []
        self._all: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def size(self) -> int:
        """Connections that are open."""
        return len(self._all)

    @property
    def unused(self) -> bool:
        """Whether nobody has or wants a connection."""
        return not (self._all or self._opening or self._waiting)

    def taken(self) -> Connection | None:
        """Return a connection that was used before and is free, or None."""
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def connection(self, seconds: float) -> Connection:
        """Return a free connection, made now if need be.

        Raises:
            NoConnection: The upstream cannot be reached.
            Late: None was free, or made, within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if found := self.taken():
                        return found
                    if len(self._all) + self._opening < self._most:
                        return await self._made()
                    if found := await self._given():
                        return found
        except TimeoutError:
            raise Late(self._name, seconds) from None

    def close(self) -> None:
        """Hang up on all."""
        for connection in tuple(self._all):
            connection.close()

    def close_idle(self, now: float) -> None:
        """Hang up on those that were unused for too long."""
        while self._idle and self._idle[0][1] + self._idle_seconds < now:
            self._idle.pop(0)[0].close()

    async def _made(self) -> Connection:
        self._opening += 1
        try:
            made = await self._connected()
        except (OSError, ssl.SSLError) as error:
            self._next(None)
            raise NoConnection(
                f"upstream {self._name}: {type(error).__name__}, expected it to listen"
            ) from None
        except BaseException:
            self._next(None)
            raise
        finally:
            self._opening -= 1
        self._all.add(made)
        return made

    async def _connected(self) -> Connection:
        loop, place = asyncio.get_running_loop(), self._place

        def make() -> Connection:
            return Connection(self._name, self._free, self._lost)

        if place.unix is not None:
            _, made = await loop.create_unix_connection(make, place.unix)
            return made
        tls = self._tls if place.secure else None
        _, made = await loop.create_connection(
            make, place.host, place.port, ssl=tls, server_hostname=place.host if tls else None
        )
        return made

    async def _given(self) -> Connection | None:
        """Wait for a turn: a connection, or None: one may be made."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (given := turn.result()):
                self._free(given)
            raise

    def _free(self, connection: Connection) -> None:
        if not self._next(connection):
            self._idle.append((connection, asyncio.get_running_loop().time()))

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._next(None)

    def _next(self, connection: Connection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False
