"""Run services together: start in order, stop in reverse, fail as one."""

import asyncio
import errno
import signal
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from wherry.errors import PortInUse


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        host: Loopback unless the operator says otherwise.
        port: 0 asks the kernel to choose; a bound address never holds 0.
    """

    host: str = "127.0.0.1"
    port: int = 0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as an ``http`` URL without a path."""
        return f"http://{self}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``HOST:PORT``.

        Raises:
            ValueError: The text is not of that form or the port is not 0 to 65535.
        """
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ValueError(f"address {text!r}: expected HOST:PORT with a port of 0 to 65535")
        return cls(host, int(port))


def listening(part: str, address: Address, *, option: str = "") -> socket.socket:
    """Return a bound TCP socket for a server to listen on.

    Args:
        part: Who asks, for the error.
        address: Where; port 0 lets the kernel choose.
        option: The setting that moves this part elsewhere, for the error.

    Raises:
        PortInUse: Another program listens there.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(part, address.host, address.port, option) from None
        raise
    sock.setblocking(False)
    return sock


def bound(sock: socket.socket) -> Address:
    """Return where ``sock`` is bound."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


async def stopped() -> None:
    """Return at the first SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    await stop.wait()


async def serve(services: Sequence[AbstractAsyncContextManager[object]]) -> None:
    """Enter each service in order, wait for SIGTERM or SIGINT, leave in reverse."""
    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(service)
        await stopped()
