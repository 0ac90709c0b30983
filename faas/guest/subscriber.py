"""One subscriber to telemetry: a bounded buffer and a thread that empties it."""

import contextlib
import json
import socket
import threading
from collections import deque
from dataclasses import dataclass

from faas.guest.http1 import MAX_LINE

_BUFFERS = 4
"""A subscriber may be so many full batches behind before it loses events."""
_PATIENCE = 2.0
"""Seconds for a subscriber to take one batch."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go, on the guest's own loopback.

    Attributes:
        port: Of the extension.
        path: For HTTP; None: lines of JSON over TCP.
    """

    port: int
    path: str | None


@dataclass(frozen=True, slots=True)
class Wants:
    """What one subscription asks for.

    Attributes:
        types: ``platform``, ``function``, ``extension``.
        destination: Where to.
        items: Most events in one batch.
        size: Most bytes in one batch.
        patience: Seconds that an event may wait for others.
    """

    types: frozenset[str]
    destination: Destination
    items: int
    size: int
    patience: float


class Subscriber:
    """Delivers events in order; those that find the buffer full are dropped and counted."""

    def __init__(self, name: str, wants: Wants) -> None:
        self.name = name
        self._wants = wants
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = self._lost_bytes = 0
        self._urgent = self._stopped = self._sending = False

    def start(self) -> None:
        """Begin to deliver."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Deliver no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def offer(self, event: dict[str, object]) -> None:
        """Take one event, unless it is of no interest; never blocks."""
        if str(event["type"]).partition(".")[0] not in self._wants.types:
            return
        data = json.dumps(event).encode()
        with self._changed:
            full = self._size + len(data) > _BUFFERS * self._wants.size
            if full or len(self._waiting) >= _BUFFERS * self._wants.items:
                self._lost += 1
                self._lost_bytes += len(data)
                return
            self._waiting.append(data)
            self._size += len(data)
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Deliver at once what there is; return when that is done, or after ``seconds``."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._sending, seconds)
            self._urgent = False

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._deliver(batch)
            except OSError:
                with self._changed:
                    self._lost += len(batch)
                    self._lost_bytes += sum(map(len, batch))
            with self._changed:
                self._sending = False
                self._changed.notify_all()

    def _next(self) -> list[bytes]:
        """Wait for a batch; it is empty when the subscriber was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._stopped)
            self._changed.wait_for(self._full, self._wants.patience)
            batch: list[bytes] = []
            size = 0
            while self._waiting and len(batch) < self._wants.items:
                size += len(self._waiting[0])
                if batch and size > self._wants.size:
                    break
                batch.append(self._waiting.popleft())
            self._size -= sum(map(len, batch))
            if self._lost and batch:
                batch.append(self._dropped(json.loads(batch[-1])["time"]))
            self._sending = bool(batch)
            return [] if self._stopped else batch

    def _full(self) -> bool:
        full = len(self._waiting) >= self._wants.items or self._size >= self._wants.size
        return full or self._urgent or self._stopped

    def _dropped(self, time: str) -> bytes:
        record = {
            "reason": "Consumer seems to have fallen behind as it has not acknowledged receipt "
            "of logs.",
            "droppedRecords": self._lost,
            "droppedBytes": self._lost_bytes,
        }
        self._lost = self._lost_bytes = 0
        event = {"time": time, "type": "platform.logsDropped", "record": record}
        return json.dumps(event).encode()

    def _deliver(self, batch: list[bytes]) -> None:
        """Send a batch.

        Raises:
            OSError: The subscriber does not take it.
        """
        destination = self._wants.destination
        address = ("127.0.0.1", destination.port)
        with socket.create_connection(address, timeout=_PATIENCE) as connection:
            if destination.path is None:
                connection.sendall(b"".join(data + b"\n" for data in batch))
                return
            body = b"[" + b",".join(batch) + b"]"
            head = (
                f"POST {destination.path} HTTP/1.1\r\nHost: sandbox.localdomain\r\n"
                "Content-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            with contextlib.suppress(TimeoutError), connection.makefile("rb") as answer:
                answer.readline(MAX_LINE)
