"""What carries the channel on the guest's side: a socket, a virtio port, or vsock."""

import contextlib
import os
import select
import socket
import threading
from pathlib import Path
from typing import Protocol

_READ = 65536
_NEITHER_END = 0.002
_PORT_PATIENCE = 0.01


class HostGone(Exception):
    """The channel is closed; there is nobody left to work for."""


class Replaced(Exception):
    """Another host has connected; what the one before had sent in part is void."""


class Wire(Protocol):
    """Bytes to and from the host."""

    def read(self) -> bytes:
        """Return some bytes; none when there is none at this moment.

        Raises:
            HostGone: There will never be any.
            Replaced: What comes next is from another host.
        """
        ...

    def write(self, data: bytes) -> None:
        """Write all of ``data``; to a host that is not there it is lost."""
        ...


class Stream:
    """An inherited socket, whose end is the host's end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> bytes:
        """See `Wire`."""
        try:
            data = os.read(self._fd, _READ)
        except ConnectionError:
            raise HostGone from None
        if not data:
            raise HostGone
        return data

    def write(self, data: bytes) -> None:
        """See `Wire`."""
        _write(self._fd, data)


class Port:
    """The first virtio port; a read of nothing means that the host is away for now."""

    def __init__(self) -> None:
        self._fd = _port()

    def read(self) -> bytes:
        """See `Wire`."""
        data = os.read(self._fd, _READ)
        if not data:
            threading.Event().wait(_NEITHER_END)
        return data

    def write(self, data: bytes) -> None:
        """See `Wire`."""
        _write(self._fd, data)


class Listening:
    """A listening socket, such as vsock's; the newest connection is the host."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._connection, _ = listener.accept()

    def read(self) -> bytes:
        """See `Wire`."""
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        if self._connection.fileno() >= 0:
            waiting.register(self._connection, select.POLLIN)
        ready = {fd for fd, _ in waiting.poll()}
        if self._listener.fileno() in ready:
            self._connection.close()
            self._connection, _ = self._listener.accept()
            raise Replaced
        with contextlib.suppress(OSError):
            if data := self._connection.recv(_READ):
                return data
        self._connection.close()
        return b""

    def write(self, data: bytes) -> None:
        """See `Wire`."""
        with contextlib.suppress(OSError):
            self._connection.sendall(data)


def vsock(port: int) -> Listening:
    """Return a wire over vsock ``port``, once the host has connected."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen()
    return Listening(listener)


def _port() -> int:
    while True:
        for port in Path("/dev").glob("vport*"):
            return os.open(port, os.O_RDWR)
        threading.Event().wait(_PORT_PATIENCE)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
