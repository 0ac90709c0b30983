"""Run services together: start in order, stop in reverse, fail as one."""

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

import grpc.aio

from wherry.errors import PortInUse, StartError


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


def listening(part: str, address: Address) -> socket.socket:
    """Return a bound TCP socket for a server to listen on.

    Args:
        part: Who asks, for the error.
        address: Where; port 0 lets the kernel choose.

    Raises:
        PortInUse: Another program listens there.
        StartError: The address is none of this machine's, or not for us.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(part, address.host, address.port) from None
        raise StartError(
            f"{part}: {address}: {error.strerror}, expected an address of this machine that we "
            f"may listen at; choose another with --listen {part}=HOST:PORT"
        ) from None
    sock.setblocking(False)
    return sock


def reserved(part: str, address: Address) -> socket.socket:
    """Return a socket that holds a port for a child process, which shares it by SO_REUSEPORT.

    It never listens, so it takes no connection; keep it open as long as the child may start.

    Args:
        part: Who asks, for the error.
        address: Which port; 0 lets the kernel choose.

    Raises:
        PortInUse: Another program has it.
    """
    if address.port:
        listening(part, address).close()
    return shared_by(part, address)


def shared_among(part: str, address: Address, count: int) -> list[socket.socket]:
    """Return ``count`` (at least 1) bound sockets of one port, for as many child processes.

    The kernel deals connections out among those that are listened at.

    Raises:
        PortInUse: Another program has it.
    """
    first = reserved(part, address)
    return [first, *(shared_by(part, bound(first)) for _ in range(count - 1))]


def shared_by(part: str, address: Address) -> socket.socket:
    """Return a bound TCP socket whose port other processes of ours may share.

    Raises:
        PortInUse: Another program has it for itself.
        StartError: The address is none of this machine's, or not for us.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(part, address.host, address.port) from None
        raise StartError(
            f"{part}: {address}: {error.strerror}, expected an address of ours"
        ) from None
    return sock


def grpc_listening(
    part: str, address: Address, server: grpc.aio.Server, *, share: bool = False
) -> Address:
    """Let a gRPC server that has not started listen at ``address``; return where it does.

    gRPC says of any failure only that it failed, and may share a port with another program, so
    the port is tried before.

    Args:
        part: Who asks, for the error.
        address: Where; port 0 lets the kernel choose.
        server: Has the option ``grpc.so_reuseport`` as ``share`` says.
        share: Whether other processes of ours listen there, too; then the port is not tried.

    Raises:
        PortInUse: Another program listens there.
    """
    free = address
    if not share:
        with listening(part, address) as probe:
            free = bound(probe)
    try:
        return Address(free.host, server.add_insecure_port(str(free)))
    except RuntimeError:
        raise PortInUse(part, free.host, free.port) from None


def bound(sock: socket.socket) -> Address:
    """Return where ``sock`` is bound."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def collect_rarely() -> None:
    """Let Python look for reference cycles less often than it does by default.

    A server holds many objects that live long, and Python's defaults walk through all of them
    again and again: a third of what the Pilot's push to a thousand streams costs. What is not in
    a cycle is freed at once, as always. For the whole process, so only programs call it.
    """
    gc.set_threshold(50_000, 20, 50)


async def serve(services: Sequence[AbstractAsyncContextManager[object]]) -> None:
    """Enter each service in order, leave in reverse at SIGTERM or SIGINT, whenever that comes."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("serve: called outside of a task, expected asyncio.run")
    told: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        told.append(number)
        task.cancel()

    collect_rarely()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not told:
            raise
        task.uncancel()
