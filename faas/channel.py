"""The channel between host and guest: framing, credit and rules, without I/O.

A frame is ``type u8 | stream u32 | length u32 | payload``, big-endian, payload at most
`MAX_FRAME` bytes. Streams that the host opens have even numbers, the guest's have odd ones, and
stream 0 is the log's. Data on a stream needs credit from the other end: `WINDOW` bytes at first,
and what a CREDIT frame adds. A guest is not trusted: whatever breaks a rule is a `ChannelError`,
and nothing it sends makes the host hold more than its windows.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from wherry.errors import WherryError

MAX_FRAME = 65536
WINDOW = 262144
PORTION = WINDOW // 4
MAX_STREAMS = 64
"""Most streams a guest may have open at once; one more is refused with RESET."""

LOG_STREAM = 0
_HEAD = struct.Struct("!BII")
_CREDIT = struct.Struct("!I")
_MOMENT = struct.Struct("!Q")


class Kind(IntEnum):
    """What a frame is.

    Guest to host: HELLO, PARKED, READY, RESTED, EXIT on stream 0; RESULT and CONNECT open a
    stream. Host to guest: LAUNCH, PROCEED, CLOCK, RESTORE, HOLD, SHUTDOWN on stream 0; EVENT
    opens a stream. HOLD and RESTORE are answered by HELLO; between the two a guest says nothing
    else. SHUTDOWN is answered by the end of the channel. RESTED follows each invocation where
    there are extensions, once all of them are done with it.
    Both: DATA, END (no more data this way; a result's says as JSON what is known only then),
    RESET (the stream is over), CREDIT (u32). LOG is the data of stream 0.
    """

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


_FROM_GUEST = frozenset(Kind) - {
    Kind.LAUNCH,
    Kind.PROCEED,
    Kind.CLOCK,
    Kind.RESTORE,
    Kind.HOLD,
    Kind.EVENT,
    Kind.SHUTDOWN,
}
_ON_STREAM_0 = frozenset({Kind.HELLO, Kind.PARKED, Kind.READY, Kind.RESTED, Kind.LOG, Kind.EXIT})


class ChannelError(WherryError):
    """The guest broke a rule of the channel."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"guest channel: {found}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        kind: What it is.
        stream: 0 to 2^32-1.
        payload: At most `MAX_FRAME` bytes.
    """

    kind: Kind
    stream: int = 0
    payload: bytes = b""

    def encoded(self) -> bytes:
        """Return the frame as it travels."""
        return _HEAD.pack(self.kind, self.stream, len(self.payload)) + self.payload

    def fields(self) -> Mapping[str, object]:
        """Return the payload as a JSON object whose texts can be written as UTF-8.

        Raises:
            ChannelError: It is none.
        """
        try:
            fields = json.loads(self.payload.decode())
            if b"\\u" in self.payload:
                json.dumps(fields, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise ChannelError(f"{self.kind.name} with {self.payload[:40]!r}", "a JSON object")
        return fields


@dataclass(slots=True)
class _Stream:
    receive: int = WINDOW
    """Bytes that the guest may still send."""
    send: int = WINDOW
    """Bytes that the host may still send."""
    owed: int = 0
    """Bytes that the host took and has given no credit for."""


class Channel:
    """The host's state of one channel.

    Feed it what arrives with `receive`; each method that says something returns the bytes to
    send. Whoever calls it does the I/O.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._streams = {LOG_STREAM: _Stream()}
        self._ids = iter(range(2, 1 << 32, 2))

    @property
    def streams(self) -> frozenset[int]:
        """The open streams, the log's included."""
        return frozenset(self._streams)

    def receive(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes and that the caller must act on.

        A CREDIT frame is booked here and yielded, so that a waiting sender can go on. Frames of a
        stream that is closed are dropped. A stream over `MAX_STREAMS` comes out as a RESET, which
        the caller sends back.

        Raises:
            ChannelError: The guest broke a rule; the channel must be closed.
        """
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, stream, length = _HEAD.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise ChannelError(f"a frame of {length} bytes", f"at most {MAX_FRAME}")
            end = _HEAD.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            if frame := self._checked(kind, stream, payload):
                yield frame

    def _checked(self, number: int, stream: int, payload: bytes) -> Frame | None:
        if number not in _FROM_GUEST:
            raise ChannelError(f"a frame of type {number}", "one that guests send")
        kind = Kind(number)
        if (kind in _ON_STREAM_0) is not (stream == LOG_STREAM) and kind is not Kind.CREDIT:
            raise ChannelError(f"{kind.name} on stream {stream}", "another stream")
        if kind in (Kind.RESULT, Kind.CONNECT):
            return self._opened(kind, stream, payload)
        state = self._streams.get(stream)
        if state is None:
            return None
        match kind:
            case Kind.DATA | Kind.LOG:
                cost = len(payload) + (kind is Kind.LOG)
                if not 0 < cost <= state.receive:
                    raise ChannelError(f"{cost} bytes on stream {stream}", f"1 to {state.receive}")
                state.receive -= cost
            case Kind.CREDIT:
                if len(payload) != _CREDIT.size:
                    raise ChannelError(f"credit of {len(payload)} bytes", f"{_CREDIT.size}")
                state.send += _CREDIT.unpack(payload)[0]
                if state.send > WINDOW:
                    raise ChannelError(f"a window of {state.send} bytes", f"at most {WINDOW}")
            case _:
                pass
        return Frame(kind, stream, payload)

    def _opened(self, kind: Kind, stream: int, payload: bytes) -> Frame:
        if stream % 2 == 0 or stream in self._streams:
            raise ChannelError(f"{kind.name} opens stream {stream}", "a free odd number")
        if len(self._streams) > MAX_STREAMS:
            return Frame(Kind.RESET, stream, b"")
        self._streams[stream] = _Stream()
        return Frame(kind, stream, payload)

    def open(self) -> int:
        """Return the number of a new stream of the host's."""
        stream = next(self._ids)
        self._streams[stream] = _Stream()
        return stream

    def close(self, stream: int) -> None:
        """Forget a stream; what still arrives on it is dropped."""
        self._streams.pop(stream, None)

    def room(self, stream: int) -> int:
        """Return how many bytes may be sent on ``stream`` now; 0 when it is closed."""
        state = self._streams.get(stream)
        return min(state.send, MAX_FRAME) if state else 0

    def data(self, stream: int, payload: bytes) -> bytes:
        """Return ``payload`` (at most `room` bytes) as it travels on ``stream``."""
        state = self._streams[stream]
        if len(payload) > state.send:
            raise ChannelError(f"{len(payload)} bytes to send", f"at most {state.send}")
        state.send -= len(payload)
        return Frame(Kind.DATA, stream, payload).encoded()

    def consumed(self, stream: int, amount: int) -> bytes:
        """Return what to send when ``amount`` bytes of ``stream`` were taken.

        Credit goes back in portions of `PORTION`, so often there is nothing to send.
        """
        state = self._streams.get(stream)
        if state is None:
            return b""
        state.owed += amount
        if state.owed < PORTION:
            return b""
        credit, state.owed = state.owed, 0
        state.receive += credit
        return Frame(Kind.CREDIT, stream, _CREDIT.pack(credit)).encoded()


def moment(unix_ns: int, entropy: bytes = b"") -> bytes:
    """Return the payload of CLOCK and RESTORE: the host's time, and fresh entropy."""
    return _MOMENT.pack(unix_ns) + entropy


def document(fields: Mapping[str, object]) -> bytes:
    """Return the payload of a frame that carries a JSON object, checked for size."""
    payload = json.dumps(dict(fields)).encode()
    if len(payload) > MAX_FRAME:
        raise ChannelError(f"a document of {len(payload)} bytes", f"at most {MAX_FRAME}")
    return payload
