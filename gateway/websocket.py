"""Connections that stop being HTTP: bytes both ways until one side ends.

Source: RFC 9110 section 7.8, RFC 6455 sections 1.3 and 4
"""

from dataclasses import dataclass

from gateway.call import Answer, Head
from gateway.upstream.exchange import Exchange

PROTOCOL = "websocket"
"""The only one that a connection may change to."""

SWITCHING = 101
_VERSION = "13"


def asked(head: Head) -> bool:
    """Return whether a request is a WebSocket handshake; any other upgrade is not looked at."""
    headers = head.headers
    if "upgrade" not in headers or head.method != "GET" or head.protocol != "HTTP/1.1":
        return False
    options = ",".join(headers.getall("connection", ())).lower().split(",")
    return (
        headers["upgrade"].lower() == PROTOCOL
        and "upgrade" in [option.strip() for option in options]
        and "sec-websocket-key" in headers
        and headers.get("sec-websocket-version") == _VERSION
    )


class Tunnel:
    """An upstream that speaks WebSocket; iterate it for what it says.

    Args:
        exchange: Whose answer was 101.
        seconds: Without a byte in either direction after which it ends.

    Attributes:
        received: Bytes that the client said.
    """

    __slots__ = ("_exchange", "_seconds", "received")

    def __init__(self, exchange: Exchange, seconds: float) -> None:
        self._exchange, self._seconds = exchange, seconds
        self.received = 0

    def __aiter__(self) -> "Tunnel":
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes from the upstream.

        Raises:
            UpstreamError: It broke off, or nothing was said for too long.
        """
        piece = await self._exchange.piece(self._seconds)
        if not piece:
            raise StopAsyncIteration
        return piece

    def send(self, data: bytes) -> bool:
        """Send what the client says; return whether there is room for more."""
        self.received += len(data)
        return self._exchange.send(data)

    async def room(self) -> None:
        """Return when there is room to send more."""
        await self._exchange.room()

    def hang_up(self) -> None:
        """End it: the client says nothing more."""
        self._exchange.end()

    async def aclose(self) -> None:
        """Take no more of it."""
        self._exchange.close()


@dataclass(slots=True)
class Switched(Answer):
    """An answer after which the connection is the ``tunnel``'s."""

    tunnel: Tunnel | None = None
