"""A place for one thing that a client waits for."""

import os
import select
import socket
import threading
from collections.abc import Mapping


class Slot:
    """Holds at most one thing until a waiter whose client is still there takes it."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0)
        self._lock = threading.Lock()
        self._thing: tuple[Mapping[str, str], bytes] | None = None

    def put(self, header: Mapping[str, str], body: bytes) -> None:
        """Offer a thing to whoever waits, now or later; it replaces one that nobody took."""
        with self._lock:
            if self._thing is None:
                os.eventfd_write(self._wake, 1)
            self._thing = (header, body)

    def take(self, client: socket.socket) -> tuple[Mapping[str, str], bytes] | None:
        """Wait for a thing; return None, and take nothing, once ``client`` has hung up."""
        waiting = select.poll()
        waiting.register(self._wake, select.POLLIN)
        waiting.register(client, select.POLLIN)
        while True:
            if client.fileno() in {fd for fd, _ in waiting.poll()}:
                return None
            with self._lock:
                if self._thing is not None:
                    os.eventfd_read(self._wake)
                    thing, self._thing = self._thing, None
                    return thing
