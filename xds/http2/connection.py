"""One HTTP/2 connection, the server's end, as a state machine: bytes in, events and frames out.

It does what gRPC needs and refuses the rest. What a peer may cost is bounded: bytes of a frame
and of a header block, frames that say nothing, streams at once and streams that end early.

Source: https://www.rfc-editor.org/rfc/rfc9113, https://www.rfc-editor.org/rfc/rfc7541
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from hpack import Decoder, HPACKError, OversizedHeaderListError

from xds.http2.frames import (
    ACK,
    DATA,
    ENABLE_PUSH,
    END,
    END_HEADERS,
    FRAME_BYTES,
    GOAWAY,
    GOAWAY_BYTES,
    HEAD,
    HEADERS,
    INITIAL_WINDOW,
    LARGEST_WINDOW,
    LIST_BYTES,
    MAX_FRAME,
    MORE,
    MOST_STREAMS,
    OF_ALL,
    OF_STREAMS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PRIORITY_BYTES,
    PUSH,
    RESET,
    SETTING,
    SETTINGS,
    SIZES,
    WINDOW,
    WORD,
    Broken,
    Code,
    Headers,
    Reader,
    frame,
    unpadded,
    well_formed,
)

FIRST_WINDOW = (1 << 16) - 1
OUR_WINDOW = 1 << 20
"""Bytes that a client may have on their way to us, all streams together."""
MOST_DIRECT = 1 << 16
"""Bytes of messages that become frames before somebody takes frames; the others wait as they are,
shared with other streams."""
MOST_CONTINUED = 16
"""CONTINUATION frames of one header block."""

_ANSWERS = 2
"""Frames without content that a frame of ours may be answered by: that window, and another."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection takes on.

    Attributes:
        streams: Most streams at once.
        header_bytes: Longest header list of a request; its compressed form is bounded alike.
        resets: Streams that may end before their time, at once; one more each `reset_seconds`.
        idle_frames: Frames without content that may come at once; 1000 more each second, and
            some for each frame with content.
    """

    streams: int = 10_000
    header_bytes: int = 16 << 10
    resets: int = 2_000
    reset_seconds: float = 0.02
    idle_frames: int = 10_000


@dataclass(frozen=True, slots=True)
class Opened:
    """A client opened a stream; ``ended`` when it will say nothing on it."""

    stream: int
    headers: Headers
    ended: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A client sent ``body`` on a stream; ``ended`` when it was the last.

    Whoever is done with it says so by `Connection.took` of its ``size``.
    """

    stream: int
    body: bytes
    size: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """A stream is no more; there is nobody left to answer."""

    stream: int


Event = Opened | Said | Gone


class Allowance:
    """So many at once, and one more each ``seconds``."""

    __slots__ = ("_at", "_left", "_most", "_seconds")

    def __init__(self, most: int, seconds: float, now: float) -> None:
        self._most, self._seconds, self._left, self._at = most, seconds, float(most), now

    def take(self, now: float) -> bool:
        """Use one; return whether there was one left."""
        self._left = min(self._most, self._left + (now - self._at) / self._seconds) - 1
        self._at = now
        return self._left >= 0

    def give(self, more: int) -> None:
        """Allow ``more`` at once, up to the most."""
        self._left = min(self._most, self._left + more)


class _Stream:
    __slots__ = ("heard", "last", "parts", "room", "taken", "window")

    def __init__(self) -> None:
        self.window = 0  # what may be sent, relative to what the peer's settings say of all
        self.room = FIRST_WINDOW  # what may come
        self.taken = 0  # what came and is done with, but was not allowed again
        self.heard = False  # whether the client has said all it will
        self.parts: deque[bytes | memoryview] = deque()
        self.last: bytes | None = None  # trailers that follow the parts


class Connection:
    """The server's end of one connection. One owner.

    Args:
        bounds: What it takes on.
        now: Seconds, as in every other call.

    Attributes:
        closing: Whether one side said that no stream is opened any more.
        closed: Whether it is over, but for what is still to be written.
        drained: Streams that had to wait and have sent all; whoever reads it empties it.
    """

    def __init__(self, bounds: Bounds, now: float) -> None:
        self._bounds, self._now = bounds, now
        self._reader, self._settled = Reader(), False
        self._streams: dict[int, _Stream] = {}
        self._newest = 0
        self._decoder = Decoder(bounds.header_bytes)
        self._block: tuple[int, int, bytearray] | None = None
        self._continued = 0
        self._window, self._first_window, self._room = FIRST_WINDOW, FIRST_WINDOW, OUR_WINDOW
        self._ready: OrderedDict[int, _Stream] = OrderedDict()  # these have something to send,
        self._shut: dict[int, _Stream] = {}  # these too, but their own window is shut,
        self._over: dict[int, _Stream] = {}  # and these have nothing left but trailers
        self._resets = Allowance(bounds.resets, bounds.reset_seconds, now)
        self._idle = Allowance(bounds.idle_frames, 0.001, now)
        self._events: list[Event] = []
        self._direct = 0
        self.drained: list[int] = []
        self.closing = self.closed = False
        settings = ((MOST_STREAMS, bounds.streams), (LIST_BYTES, bounds.header_bytes))
        self._output = [
            frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*each) for each in settings)),
            frame(WINDOW, 0, 0, WORD.pack(OUR_WINDOW - FIRST_WINDOW)),
        ]

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    def receive(self, raw: bytes, now: float) -> list[Event]:
        """Take bytes; return what they say. Once the connection is ``closed`` it takes nothing."""
        self._now = now
        try:
            for kind, flags, number, body in self._reader.frames(raw):
                if self.closed:
                    break
                self._check(kind, flags, number, len(body))
                if (take := _TAKE.get(kind)) is None:
                    self._idled()  # a kind from an extension
                else:
                    take(self, flags, number, body)
        except Broken as error:
            self.end(error.code, str(error))
        events, self._events = self._events, []
        return events

    def _check(self, kind: int, flags: int, number: int, size: int) -> None:
        """Raise if a frame may not come now, on this stream, or with this size."""
        block = self._block
        if (kind == MORE) != (block is not None) or (block is not None and number != block[0]):
            raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: kind {kind} in or after headers")
        if not self._settled and (kind != SETTINGS or flags & ACK):
            raise Broken(Code.PROTOCOL_ERROR, f"frame: first of kind {kind}, expected settings")
        if size != SIZES.get(kind, size):
            raise Broken(Code.FRAME_SIZE_ERROR, f"frame: kind {kind} of {size} bytes")
        if (number and kind in OF_ALL) or (not number and kind in OF_STREAMS):
            raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: a frame of kind {kind}")

    def _data(self, flags: int, number: int, body: bytes) -> None:
        size = len(body)
        self._room -= size
        if self._room < 0:
            raise Broken(Code.FLOW_CONTROL_ERROR, "connection: window exceeded, expected patience")
        if self._room < OUR_WINDOW // 2:
            self._output.append(frame(WINDOW, 0, 0, WORD.pack(OUR_WINDOW - self._room)))
            self._room = OUR_WINDOW
        if flags & PADDED:
            body = unpadded(body)
        ended = bool(flags & END)
        stream = self._streams.get(number)
        if stream is None:
            self._known(number)
            self._idled()
            return
        if stream.heard:
            raise Broken(Code.STREAM_CLOSED, f"stream {number}: data after its end, expected none")
        stream.room -= size
        if stream.room < 0:
            raise Broken(Code.FLOW_CONTROL_ERROR, f"stream {number}: window exceeded")
        stream.heard = ended
        if body or ended:
            self._idle.give(1)
        else:
            self._idled()
        self._events.append(Said(number, body, size, ended))

    def _headers(self, flags: int, number: int, body: bytes) -> None:
        if number % 2 == 0:
            raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: headers, expected an odd number")
        if flags & PADDED:
            body = unpadded(body)
        if flags & PRIORITIZED:
            if len(body) < PRIORITY_BYTES or WORD.unpack_from(body)[0] & LARGEST_WINDOW == number:
                raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: priority, expected another's")
            body = body[PRIORITY_BYTES:]
        self._block, self._continued = (number, flags & END, bytearray(body)), 0
        if flags & END_HEADERS:
            self._whole(*self._block)

    def _more(self, flags: int, number: int, body: bytes) -> None:
        if self._block is None:
            return
        self._block[2].extend(body)
        self._continued += 1
        if self._continued > MOST_CONTINUED or len(self._block[2]) > self._bounds.header_bytes:
            raise Broken(Code.ENHANCE_YOUR_CALM, f"stream {number}: headers without end")
        if flags & END_HEADERS:
            self._whole(*self._block)

    def _whole(self, number: int, ended: int, block: bytearray) -> None:
        self._block = None
        try:
            headers: Headers = [(n, v) for n, v in self._decoder.decode(bytes(block), raw=True)]
        except OversizedHeaderListError:
            most = self._bounds.header_bytes
            raise Broken(
                Code.ENHANCE_YOUR_CALM, f"stream {number}: headers over {most} bytes"
            ) from None
        except HPACKError as error:
            raise Broken(Code.COMPRESSION_ERROR, f"stream {number}: {error}") from None
        stream = self._streams.get(number)
        if stream is not None:
            if stream.heard or not ended:
                raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: headers within, expected none")
            stream.heard = True
            self._events.append(Said(number, b"", 0, ended=True))
        elif number <= self._newest:
            raise Broken(Code.STREAM_CLOSED, f"stream {number}: headers again, expected a new one")
        else:
            self._open(number, headers, ended=bool(ended))

    def _open(self, number: int, headers: Headers, *, ended: bool) -> None:
        self._newest = number
        if self.closing or len(self._streams) >= self._bounds.streams:
            self._refuse(number, Code.REFUSED_STREAM)
        elif not well_formed(headers):
            self._refuse(number, Code.PROTOCOL_ERROR)
        else:
            stream = self._streams[number] = _Stream()
            stream.heard = ended
            self._events.append(Opened(number, headers, ended))

    def _refuse(self, number: int, code: Code) -> None:
        self.strike()
        self._output.append(frame(RESET, 0, number, WORD.pack(code)))

    def _priority(self, _flags: int, _number: int, _body: bytes) -> None:
        self._idled()

    def _reset(self, _flags: int, number: int, _body: bytes) -> None:
        self._known(number)
        self.strike()
        if self._drop(number):
            self._events.append(Gone(number))

    def _settings(self, flags: int, _number: int, body: bytes) -> None:
        if len(body) % SETTING.size or (flags & ACK and body):
            raise Broken(Code.FRAME_SIZE_ERROR, f"settings: {len(body)} bytes")
        self.strike()
        self._settled = True
        if flags & ACK:
            return
        for key, value in SETTING.iter_unpack(body):
            if key == ENABLE_PUSH and value > 1:
                raise Broken(Code.PROTOCOL_ERROR, f"settings: push {value}, expected 0 or 1")
            if key == MAX_FRAME and not FRAME_BYTES <= value < 1 << 24:
                raise Broken(Code.PROTOCOL_ERROR, f"settings: frames of {value}")
            if key == INITIAL_WINDOW:
                if value > LARGEST_WINDOW:
                    raise Broken(Code.FLOW_CONTROL_ERROR, f"settings: window of {value}")
                self._first_window = value
        self._ready.update(self._shut)
        self._shut.clear()
        self._output.append(frame(SETTINGS, ACK, 0, b""))

    def _ping(self, flags: int, _number: int, body: bytes) -> None:
        self._idled()
        if not flags & ACK:
            self._output.append(frame(PING, ACK, 0, body))

    def _goaway(self, _flags: int, _number: int, body: bytes) -> None:
        if len(body) < GOAWAY_BYTES:
            raise Broken(Code.FRAME_SIZE_ERROR, f"goaway: {len(body)} bytes")
        self.closing = True

    def _window_update(self, _flags: int, number: int, body: bytes) -> None:
        self._idled()
        more = WORD.unpack(body)[0] & LARGEST_WINDOW
        if more == 0:
            raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: window grows by 0, expected more")
        if number == 0:
            self._window += more
            grown = self._window
        else:
            self._known(number)
            stream = self._streams.get(number)
            if stream is None:
                return
            stream.window += more
            grown = stream.window + self._first_window
            if self._shut.pop(number, None) is not None:
                self._ready[number] = stream
        if grown > LARGEST_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, f"stream {number}: window of {grown}")

    def _pushed(self, _flags: int, number: int, _body: bytes) -> None:
        raise Broken(Code.PROTOCOL_ERROR, f"stream {number}: a push, expected it from servers only")

    def _known(self, number: int) -> None:
        """Raise unless a stream of that number is open or was."""
        if number == 0 or number > self._newest or number % 2 == 0:
            raise Broken(
                Code.PROTOCOL_ERROR, f"stream {number}: never opened, expected an open one"
            )

    def _idled(self) -> None:
        if not self._idle.take(self._now):
            raise Broken(Code.ENHANCE_YOUR_CALM, "connection: too many frames without content")

    def _drop(self, number: int) -> bool:
        for streams in (self._ready, self._shut, self._over):
            streams.pop(number, None)
        return self._streams.pop(number, None) is not None

    def strike(self) -> None:
        """Count a stream that ended before its time; too many end the connection.

        Source: CVE-2023-44487
        """
        if not self._resets.take(self._now):
            self.end(Code.ENHANCE_YOUR_CALM, "connection: too many streams ended early")

    def took(self, number: int, size: int) -> None:
        """Let the client send ``size`` bytes more on a stream, now that as many were taken."""
        stream = self._streams.get(number)
        if stream is None or stream.heard:
            return
        stream.taken += size
        if stream.taken > FIRST_WINDOW // 2:
            stream.room += stream.taken
            self._output.append(frame(WINDOW, 0, number, WORD.pack(stream.taken)))
            stream.taken = 0

    def head(self, number: int, block: bytes) -> None:
        """Send headers on a stream; ``block`` is HPACK that leaves the table alone."""
        if number in self._streams:
            self._output.append(frame(HEADERS, END_HEADERS, number, block))

    def send(self, number: int, *parts: bytes) -> bool:
        """Send ``parts`` on a stream, as soon as its reader lets them through.

        To a stream that its client has reset nothing is sent: of several events that come at
        once, that may be a later one.

        Returns:
            Whether that is now; otherwise its number is among ``drained`` afterwards.
        """
        stream = self._streams.get(number)
        if stream is None:
            return True
        size = sum(map(len, parts))
        window = min(self._window, stream.window + self._first_window, FRAME_BYTES)
        if size <= window and not stream.parts and self._direct < MOST_DIRECT:
            self._direct += size
            self._idle.give(_ANSWERS)
            self._window -= size
            stream.window -= size
            self._output += (HEAD.pack(0, size, DATA, 0, number), *parts)
            return True
        stream.parts.extend(parts)
        if number not in self._shut:
            self._ready[number] = stream
        return False

    def finish(self, number: int, block: bytes, *, patient: bool = True) -> None:
        """End a stream with trailers, after what was sent before.

        Args:
            number: Of the stream.
            block: As for `head`.
            patient: Whether to wait until the client lets through what was sent before; if not,
                and it does not, the stream is reset.
        """
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.parts and not patient:
            self.reset(number, Code.CANCEL)
            return
        stream.last = block
        if not stream.parts:
            self._over[number] = stream

    def reset(self, number: int, code: Code) -> None:
        """End an open stream at once; what was not sent is dropped."""
        if self._drop(number):
            self._output.append(frame(RESET, 0, number, WORD.pack(code)))

    def ping(self) -> None:
        """Ask the peer whether it is there; any bytes from it are an answer."""
        self._output.append(frame(PING, 0, 0, b"wherry\0\0"))

    def end(self, code: Code, text: str = "") -> None:
        """Say that no stream is taken any more; with an error, that the connection ends now."""
        if not self.closed and not (self.closing and code is Code.NO_ERROR):
            body = WORD.pack(self._newest) + WORD.pack(code) + text.encode()[:200]
            self._output.append(frame(GOAWAY, 0, 0, body))
        self.closing = True
        self.closed = self.closed or code is not Code.NO_ERROR

    def output(self, most: int) -> bytes:
        """Return frames to write, about ``most`` bytes if there are so many; empty: none may go."""
        output, self._output, self._direct = self._output, [], 0
        size = sum(map(len, output)) if self._ready else 0
        while self._ready and self._window > 0 and size < most:
            number, stream = self._ready.popitem(last=False)
            room = min(self._window, stream.window + self._first_window, FRAME_BYTES)
            if room <= 0:
                self._shut[number] = stream
                continue
            size += self._piece(output, number, stream, room)
            if stream.parts:
                self._ready[number] = stream
                continue
            self.drained.append(number)
            if stream.last:
                self._over[number] = stream
        for number, stream in self._over.items():
            output.append(frame(HEADERS, END_HEADERS | END, number, stream.last or b""))
            if not stream.heard:
                output.append(frame(RESET, 0, number, WORD.pack(Code.NO_ERROR)))
            del self._streams[number]
        self._over.clear()
        return b"".join(output)

    def _piece(self, output: list[bytes], number: int, stream: _Stream, room: int) -> int:
        body = bytearray()
        while stream.parts and len(body) < room:
            part = memoryview(stream.parts.popleft())
            take = min(len(part), room - len(body))
            body += part[:take]
            if take < len(part):
                stream.parts.appendleft(part[take:])
        self._idle.give(_ANSWERS)
        self._window -= len(body)
        stream.window -= len(body)
        output.append(frame(DATA, 0, number, bytes(body)))
        return len(body)


_TAKE: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    DATA: Connection._data, HEADERS: Connection._headers, PRIORITY: Connection._priority,
    RESET: Connection._reset, SETTINGS: Connection._settings, PUSH: Connection._pushed,
    PING: Connection._ping, GOAWAY: Connection._goaway, WINDOW: Connection._window_update,
    MORE: Connection._more,
}  # fmt: skip
