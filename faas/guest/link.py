"""The guest's end of the channel to the host: frames, credit, one reader, many writers.

A frame is ``type u8 | stream u32 | length u32 | payload``, big-endian. Kinds and rules are those
of ``faas/channel.py``, the host's end; this file repeats them because it runs where nothing but
the standard library is installed.
"""

import contextlib
import json
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

from faas.guest.wire import Replaced, Wire

HEAD = struct.Struct("!BII")
MAX_FRAME = 65536
WINDOW = 262144
PORTION = WINDOW // 4
"""Credit is given back in portions of so many bytes."""
SMALL = 30000
"""Most bytes that a virtio port takes in one write, with room for heads."""


class Kind(IntEnum):
    """What a frame is; see ``faas/channel.py`` for who sends which and what it carries."""

    HELLO = 1
    LAUNCH = 2
    PARKED = 3
    READY = 4
    PROCEED = 5
    CLOCK = 6
    RESTORE = 7
    EVENT = 8
    RESULT = 9
    CONNECT = 10
    DATA = 11
    END = 12
    RESET = 13
    CREDIT = 14
    LOG = 15
    EXIT = 16
    HOLD = 17
    RESTED = 18
    SHUTDOWN = 19


LOG_STREAM = 0
VERSION = 1
_HELLO = json.dumps({"version": VERSION}).encode()


class StreamReset(Exception):
    """The host no longer wants this stream."""


class Link:
    """Frames to and from the host over one file descriptor.

    Any thread may send; one thread iterates over `frames`. Data of a stream waits for the host's
    credit, so a slow host slows that stream and no other.

    Args:
        wire: What carries them.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._writing = threading.Lock()
        self._held = False
        self._credit = {LOG_STREAM: WINDOW}
        self._credited = threading.Condition()
        self._owed: dict[int, int] = {}
        self._ids = iter(range(1, 1 << 31, 2))
        self._buffer = bytearray()

    def open(self) -> int:
        """Return the number of a new stream, with a full window."""
        with self._credited:
            stream = next(self._ids)
            self._credit[stream] = WINDOW
        return stream

    def close(self, stream: int) -> None:
        """Forget a stream; a sender that waits for its credit gets `StreamReset`."""
        with self._credited:
            self._credit.pop(stream, None)
            self._credited.notify_all()

    def credit(self, stream: int, amount: int) -> None:
        """Let ``amount`` more bytes flow to the host on ``stream``."""
        with self._credited:
            if stream in self._credit:
                self._credit[stream] += amount
                self._credited.notify_all()

    def consumed(self, stream: int, amount: int) -> None:
        """Give the host its credit back for what was taken from ``stream``, in good portions."""
        owed = self._owed.pop(stream, 0) + amount
        if owed < PORTION:
            self._owed[stream] = owed
        else:
            self.send(Kind.CREDIT, stream, owed.to_bytes(4, "big"))

    def forget(self, stream: int) -> None:
        """Forget a stream of the host's."""
        self._owed.pop(stream, None)

    def hello(self) -> None:
        """Say that the agent is up."""
        self.send(Kind.HELLO, payload=_HELLO)

    def hold(self) -> None:
        """Let nobody write until `restart`, so that no frame is cut in two by a snapshot."""
        if not self._held:
            self._writing.acquire()
            self._held = True
        self._wire.write(_frame(Kind.HELLO, 0, _HELLO))

    def restart(self) -> None:
        """Start anew with another host: no streams, and the log's credit whole."""
        with self._credited:
            self._credit = {LOG_STREAM: WINDOW}
            self._credited.notify_all()
        self._owed.clear()
        if self._held:
            self._held = False
            self._writing.release()

    def send(self, kind: Kind, stream: int = 0, payload: bytes = b"") -> None:
        """Write one frame."""
        with self._writing:
            self._wire.write(_frame(kind, stream, payload))

    def send_json(self, kind: Kind, stream: int = 0, /, **fields: object) -> None:
        """Write one frame whose payload is a JSON object."""
        self.send(kind, stream, json.dumps(fields).encode())

    def send_data(self, stream: int, data: bytes) -> None:
        """Write ``data`` as the host's credit allows; return when all of it is written.

        Raises:
            StreamReset: The stream was closed meanwhile.
        """
        view = memoryview(data)
        while view:
            size = self._spend(stream, 1, min(len(view), MAX_FRAME))
            self.send(Kind.DATA, stream, bytes(view[:size]))
            view = view[size:]

    def send_log(self, line: bytes) -> None:
        """Write one line of log once the host has room for the whole of it."""
        self.send_logs([line])

    def send_logs(self, lines: Sequence[bytes]) -> None:
        """Write lines of log, as many at a time as the host has room for."""
        at = 0
        while at < len(lines):
            room = self._spend(LOG_STREAM, len(lines[at]) + 1, WINDOW)
            frames = bytearray()
            while at < len(lines) and (cost := len(lines[at]) + 1) <= room:
                room -= cost
                frames += _frame(Kind.LOG, LOG_STREAM, lines[at])
                at += 1
            self._refund(LOG_STREAM, room)
            with self._writing:
                self._wire.write(bytes(frames))

    def _refund(self, stream: int, amount: int) -> None:
        with self._credited:
            if stream in self._credit:
                self._credit[stream] += amount

    def _spend(self, stream: int, least: int, most: int) -> int:
        with self._credited:
            self._credited.wait_for(lambda: self._credit.get(stream, least) >= least)
            if stream not in self._credit:
                raise StreamReset
            size = min(self._credit[stream], most)
            self._credit[stream] -= size
            return size

    def send_result(self, header: Mapping[str, object], body: bytes) -> None:
        """Write a result's header, body and end as one stream; a small one in one piece."""
        stream = self.open()
        said = json.dumps(dict(header)).encode()
        if 0 < len(body) <= SMALL:
            frames = _frame(Kind.RESULT, stream, said) + _frame(Kind.DATA, stream, body)
            with self._writing:
                self._wire.write(frames + _frame(Kind.END, stream, b""))
        else:
            self.send(Kind.RESULT, stream, said)
            with contextlib.suppress(StreamReset):
                self.send_data(stream, body)
                self.send(Kind.END, stream)
        self.close(stream)

    def begin_result(self, header: Mapping[str, object]) -> int:
        """Write the header of a result that comes piece by piece; return its stream."""
        stream = self.open()
        self.send_json(Kind.RESULT, stream, **header)
        return stream

    def end_result(self, stream: int, trailer: Mapping[str, object]) -> None:
        """Write the end of a result, with what is known of it only now."""
        self.send_json(Kind.END, stream, **trailer)
        self.close(stream)

    def frames(self) -> Iterator[tuple[Kind, int, bytes]]:
        """Yield ``(kind, stream, payload)`` until the host is gone.

        Raises:
            HostGone: At the end of the channel.
        """
        while True:
            try:
                kind, stream, length = HEAD.unpack(self._read(HEAD.size))
                payload = self._read(length)
            except Replaced:
                self._buffer.clear()
            else:
                yield Kind(kind), stream, payload

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._wire.read()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _frame(kind: Kind, stream: int, payload: bytes) -> bytes:
    return HEAD.pack(kind, stream, len(payload)) + payload
