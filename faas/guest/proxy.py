"""The way out: an HTTP proxy on loopback whose connections end at the host's side."""

import contextlib
import socket
import threading
from collections import deque

from faas.guest.http1 import response
from faas.guest.link import Kind, Link, StreamReset

ADDRESS = ("127.0.0.1", 3128)
_READ = 65536
_NO_WAY_OUT = response(
    502,
    b"this function has no way out: the mesh's proxy does not answer\n",
    {"Content-Type": "text/plain"},
    close=True,
)


class Proxy:
    """Pipes each connection of the function to the host as one stream."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pipes: dict[int, _Pipe] = {}
        self._listener = socket.create_server(ADDRESS)

    def run(self) -> None:
        """Accept connections, each with two threads of its own."""
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pipe = _Pipe(self._link, connection)
            self._pipes[pipe.stream] = pipe
            self._link.send(Kind.CONNECT, pipe.stream)
            threading.Thread(target=self._serve, args=(pipe,), daemon=True).start()

    def receive(self, kind: Kind, stream: int, payload: bytes) -> None:
        """Take a frame of a stream; one for a stream that has ended is dropped."""
        if pipe := self._pipes.get(stream):
            pipe.offer(kind, payload)

    def reset(self) -> None:
        """End every connection: their far ends belong to another life."""
        for pipe in tuple(self._pipes.values()):
            pipe.offer(Kind.RESET, b"")

    def _serve(self, pipe: "_Pipe") -> None:
        sender = threading.Thread(target=pipe.send, daemon=True)
        sender.start()
        pipe.deliver()
        sender.join()
        self._pipes.pop(pipe.stream, None)
        self._link.close(pipe.stream)
        self._link.forget(pipe.stream)
        pipe.connection.close()


class _Pipe:
    """One connection: what the function sends, and what it is sent.

    The queue of frames to deliver is bounded by the credit that the host was given.
    """

    def __init__(self, link: Link, connection: socket.socket) -> None:
        self._link = link
        self._arrived: deque[tuple[Kind, bytes]] = deque()
        self._arrival = threading.Condition()
        self.connection = connection
        self.stream = link.open()

    def offer(self, kind: Kind, payload: bytes) -> None:
        with self._arrival:
            self._arrived.append((kind, payload))
            self._arrival.notify()

    def send(self) -> None:
        """Carry the function's bytes to the host until either ends."""
        try:
            while piece := self.connection.recv(_READ):
                self._link.send_data(self.stream, piece)
            self._link.send(Kind.END, self.stream)
        except OSError:
            self._link.send(Kind.RESET, self.stream)
        except StreamReset:
            return

    def deliver(self) -> None:
        """Carry the host's bytes to the function until either ends."""
        silent = True
        try:
            while True:
                kind, payload = self._next()
                match kind:
                    case Kind.DATA:
                        silent = False
                        self.connection.sendall(payload)
                        self._link.consumed(self.stream, len(payload))
                    case Kind.END:
                        self.connection.shutdown(socket.SHUT_WR)
                        return
                    case _:
                        break
        except OSError:
            self._link.send(Kind.RESET, self.stream)
        self._abort(silent=silent)

    def _abort(self, *, silent: bool) -> None:
        self._link.close(self.stream)
        with contextlib.suppress(OSError):
            if silent:
                self.connection.sendall(_NO_WAY_OUT)
            self.connection.shutdown(socket.SHUT_RDWR)

    def _next(self) -> tuple[Kind, bytes]:
        with self._arrival:
            self._arrival.wait_for(lambda: self._arrived)
            return self._arrived.popleft()
