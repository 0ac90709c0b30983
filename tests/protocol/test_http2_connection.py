"""The server's end of an HTTP/2 connection without I/O: its answer to whatever a peer may do."""

from struct import pack

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st
from support.frames import END_HEADERS, PREFACE, frame, headers

from xds.http2.connection import (
    FIRST_WINDOW,
    MOST_CONTINUED,
    OUR_WINDOW,
    Bounds,
    Connection,
    Gone,
    Opened,
    Said,
)
from xds.http2.frames import FRAME_BYTES, Code

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, MORE = range(10)
END, ACK, PADDED = 1, 1, 8
HELLO = PREFACE + frame(SETTINGS, 0, 0, b"")
BLOCK = headers("/service/Method")
OPEN = HELLO + frame(HEADERS, END_HEADERS, 1, BLOCK)
BOUNDS = Bounds(streams=10, resets=20, idle_frames=100)


def frames(raw):
    found = []
    while raw:
        size = int.from_bytes(raw[:3])
        found.append((raw[3], raw[4], int.from_bytes(raw[5:9]), raw[9 : 9 + size]))
        raw = raw[9 + size :]
    return found


def greeted(raw=HELLO, bounds=BOUNDS):
    connection = Connection(bounds, 0.0)
    events = connection.receive(raw, 0.0)
    written(connection)
    return connection, events


def written(connection):
    out = []
    while piece := connection.output(1 << 16):
        out += frames(piece)
    return out


def codes(found, kind):
    at = {GOAWAY: 4, RESET: 0}[kind]
    return [int.from_bytes(body[at : at + 4]) for k, _, _, body in found if k == kind]


def word(number):
    return pack(">I", number)


def setting(key, value):
    return frame(SETTINGS, 0, 0, pack(">HI", key, value))


def encoded(*fields):
    return Encoder().encode(fields)


REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b")]

ENDS = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR),
    "no settings after the preface": (PREFACE + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "an ack for settings": (PREFACE + frame(SETTINGS, ACK, 0, b""), Code.PROTOCOL_ERROR),
    "a frame too long": (HELLO + frame(DATA, 0, 1, bytes(FRAME_BYTES + 1)), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (HELLO + frame(SETTINGS, 0, 1, b""), Code.PROTOCOL_ERROR),
    "settings cut short": (HELLO + frame(SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "an ack with content": (HELLO + frame(SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "a push of 2": (HELLO + setting(2, 2), Code.PROTOCOL_ERROR),
    "a window too large": (HELLO + setting(4, 1 << 31), Code.FLOW_CONTROL_ERROR),
    "frames too small": (HELLO + setting(5, FRAME_BYTES - 1), Code.PROTOCOL_ERROR),
    "a ping of a stream": (HELLO + frame(PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a ping cut short": (HELLO + frame(PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a reset of nothing": (HELLO + frame(RESET, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset cut short": (OPEN + frame(RESET, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
    "a window of nothing": (HELLO + frame(WINDOW, 0, 1, word(1)), Code.PROTOCOL_ERROR),
    "a window that grows by 0": (HELLO + frame(WINDOW, 0, 0, word(0)), Code.PROTOCOL_ERROR),
    "a window over all": (HELLO + frame(WINDOW, 0, 0, word(0x7FFFFFFF)), Code.FLOW_CONTROL_ERROR),
    "a window over all, of a stream": (
        OPEN + frame(WINDOW, 0, 1, word(0x7FFFFFFF)), Code.FLOW_CONTROL_ERROR,
    ),
    "data of nothing": (HELLO + frame(DATA, 0, 1, b"a"), Code.PROTOCOL_ERROR),
    "data of all": (HELLO + frame(DATA, 0, 0, b"a"), Code.PROTOCOL_ERROR),
    "data after the end": (
        OPEN + frame(DATA, END, 1, b"a") + frame(DATA, 0, 1, b"a"), Code.STREAM_CLOSED,
    ),
    "only padding": (OPEN + frame(DATA, PADDED, 1, b"\x01"), Code.PROTOCOL_ERROR),
    "padding of nothing": (OPEN + frame(DATA, PADDED, 1, b""), Code.PROTOCOL_ERROR),
    "headers of all": (HELLO + frame(HEADERS, END_HEADERS, 0, BLOCK), Code.PROTOCOL_ERROR),
    "headers of an even number": (
        HELLO + frame(HEADERS, END_HEADERS, 2, BLOCK), Code.PROTOCOL_ERROR,
    ),
    "headers within a stream": (OPEN + frame(HEADERS, END_HEADERS, 1, BLOCK), Code.PROTOCOL_ERROR),
    "headers of a stream that was": (
        OPEN + frame(RESET, 0, 1, word(8)) + frame(HEADERS, END_HEADERS, 1, BLOCK),
        Code.STREAM_CLOSED,
    ),
    "a lower number": (
        HELLO + b"".join(frame(HEADERS, END_HEADERS, n, BLOCK) for n in (3, 1)), Code.STREAM_CLOSED,
    ),
    "headers that depend on themselves": (
        HELLO + frame(HEADERS, END_HEADERS | 0x20, 1, word(1) + b"\0" + BLOCK), Code.PROTOCOL_ERROR,
    ),
    "a priority cut short": (HELLO + frame(PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "a priority of all": (HELLO + frame(PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "a push": (HELLO + frame(PUSH, END_HEADERS, 1, word(2) + BLOCK), Code.PROTOCOL_ERROR),
    "more of no headers": (HELLO + frame(MORE, END_HEADERS, 1, b""), Code.PROTOCOL_ERROR),
    "something within headers": (
        HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR,
    ),
    "more of another's headers": (
        HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(MORE, END_HEADERS, 3, b""), Code.PROTOCOL_ERROR,
    ),
    "headers without end": (
        HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(MORE, 0, 1, b"") * (MOST_CONTINUED + 1),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a header block too long": (
        HELLO + frame(HEADERS, 0, 1, bytes(FRAME_BYTES)) + frame(MORE, 0, 1, bytes(FRAME_BYTES)),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a header that grows when it is read": (
        HELLO + frame(
            HEADERS, END_HEADERS, 1,
            encoded(*REQUEST, ("a", "b" * 4000)) + b"\xbe" * 5,
        ),
        Code.ENHANCE_YOUR_CALM,
    ),
    "an index of no header": (
        HELLO + frame(HEADERS, END_HEADERS, 1, b"\xff\x7f"), Code.COMPRESSION_ERROR,
    ),
    "a table too large": (
        HELLO + frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x7f" + BLOCK), Code.COMPRESSION_ERROR,
    ),
    "a goaway cut short": (HELLO + frame(GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "too many pings": (HELLO + frame(PING, 0, 0, bytes(8)) * 101, Code.ENHANCE_YOUR_CALM),
    "too many settings": (HELLO + frame(SETTINGS, 0, 0, b"") * 21, Code.ENHANCE_YOUR_CALM),
    "too many empty frames": (OPEN + frame(DATA, 0, 1, b"") * 101, Code.ENHANCE_YOUR_CALM),
    "too many priorities": (HELLO + frame(PRIORITY, 0, 1, bytes(5)) * 101, Code.ENHANCE_YOUR_CALM),
    "too many windows": (OPEN + frame(WINDOW, 0, 1, word(1)) * 101, Code.ENHANCE_YOUR_CALM),
    "too much of an extension": (HELLO + frame(0xFE, 0, 0, b"") * 101, Code.ENHANCE_YOUR_CALM),
    "streams that are reset at once": (
        HELLO + b"".join(
            frame(HEADERS, END_HEADERS, n, BLOCK) + frame(RESET, 0, n, word(8))
            for n in range(1, 61, 2)
        ),
        Code.ENHANCE_YOUR_CALM,
    ),
    "too many streams, again and again": (
        HELLO + b"".join(frame(HEADERS, END_HEADERS, n, BLOCK) for n in range(1, 101, 2)),
        Code.ENHANCE_YOUR_CALM,
    ),
    "data over the window": (
        OPEN + frame(DATA, 0, 1, bytes(FRAME_BYTES)) * 5, Code.FLOW_CONTROL_ERROR,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "code"), ENDS.values(), ids=ENDS)
def test_a_peer_that_breaks_the_protocol_or_a_bound_is_told_and_heard_no_more(raw, code):
    for chunk in (len(raw), 7):
        connection = Connection(BOUNDS, 0.0)
        for at in range(0, len(raw), chunk):
            connection.receive(raw[at : at + chunk], 0.0)
        assert codes(written(connection), GOAWAY) == [code]
        assert connection.closed
        assert connection.receive(OPEN, 0.0) == []
        assert written(connection) == []


MALFORMED = {
    "no path": REQUEST[:2],
    "a response's": [*REQUEST, (":status", "200")],
    "twice": [*REQUEST, (":path", "/c")],
    "late": [REQUEST[0], ("a", "b"), *REQUEST[1:]],
    "unknown": [*REQUEST, (":protocol", "websocket")],
    "capital": [*REQUEST, ("Content-Type", "application/grpc")],
    "of the connection": [*REQUEST, ("connection", "close")],
    "te": [*REQUEST, ("te", "gzip")],
    "line end": [*REQUEST, ("a", "b\r\nc: d")],
    "no name": [*REQUEST, ("", "b")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_costs_its_stream_and_no_other(fields):
    connection, _ = greeted()
    block = encoded(*fields)
    assert connection.receive(frame(HEADERS, END_HEADERS, 1, block), 0.0) == []
    assert codes(written(connection), RESET) == [Code.PROTOCOL_ERROR]
    (opened,) = connection.receive(frame(HEADERS, END_HEADERS, 3, BLOCK), 0.0)
    assert opened.stream == 3
    assert not connection.closed


def test_a_request_over_several_frames_is_one():
    block = encoded(*REQUEST, ("a", "b" * 500))
    head = frame(HEADERS, END, 1, block[:20]) + frame(MORE, 0, 1, block[20:300])
    _, events = greeted(HELLO + head + frame(MORE, END_HEADERS, 1, block[300:]))
    (opened,) = events
    assert (opened.stream, opened.ended, len(opened.headers)) == (1, True, 4)


def test_padding_and_priority_are_taken_off():
    block = b"\x03" + word(0) + b"\0" + BLOCK + bytes(3)
    head = frame(HEADERS, END_HEADERS | PADDED | 0x20, 1, block)
    _, events = greeted(HELLO + head + frame(DATA, PADDED | END, 1, b"\x02abc\0\0"))
    assert [type(event) for event in events] == [Opened, Said]
    assert (events[1].body, events[1].size, events[1].ended) == (b"abc", 6, True)


def test_a_ping_is_answered_and_an_answer_is_not():
    connection, _ = greeted()
    connection.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, bytes(8)), 0.0)
    assert written(connection) == [(PING, ACK, 0, b"12345678")]


def test_allowances_come_back_with_time():
    connection, _ = greeted()
    for second in range(50):
        connection.receive(frame(PING, 0, 0, bytes(8)) * 90, float(second))
        for n in (4 * second + 1, 4 * second + 3):
            raw = frame(HEADERS, END_HEADERS, n, BLOCK) + frame(RESET, 0, n, word(8))
            events = connection.receive(raw, float(second))
            assert [type(event) for event in events] == [Opened, Gone]
    assert not connection.closed


def test_one_stream_more_than_allowed_is_refused_alone():
    connection, _ = greeted()
    opened = b"".join(frame(HEADERS, END_HEADERS, n, BLOCK) for n in range(1, 23, 2))
    assert len(connection.receive(opened, 0.0)) == 10
    assert codes(written(connection), RESET) == [Code.REFUSED_STREAM]
    assert not connection.closed


def test_what_is_sent_keeps_to_both_windows_and_to_the_frame_size():
    connection, _ = greeted(OPEN)
    body = bytes(200_000)
    assert not connection.send(1, b"12345", body)
    first = written(connection)
    assert sum(len(f[3]) for f in first) == FIRST_WINDOW
    assert all(kind == DATA and len(f) <= FRAME_BYTES for kind, _, _, f in first)
    connection.receive(frame(WINDOW, 0, 1, word(1 << 20)), 0.0)
    assert written(connection) == []
    connection.receive(frame(WINDOW, 0, 0, word(100)), 0.0)
    assert [len(f[3]) for f in written(connection)] == [100]
    assert connection.drained == []
    connection.receive(frame(WINDOW, 0, 0, word(1 << 20)), 0.0)
    rest = written(connection)
    assert sum(len(f[3]) for f in rest) == 200_005 - FIRST_WINDOW - 100
    assert connection.drained == [1]


def test_a_stream_whose_window_is_shut_holds_up_no_other():
    connection, _ = greeted(OPEN + frame(HEADERS, END_HEADERS, 3, BLOCK) + setting(4, 10))
    connection.send(1, bytes(20))
    connection.send(3, b"quick")
    assert [(n, len(f)) for k, _, n, f in written(connection) if k == DATA] == [(3, 5), (1, 10)]
    connection.finish(1, BLOCK)
    connection.finish(3, BLOCK)
    assert [(k, n) for k, _, n, _ in written(connection)] == [(HEADERS, 3), (RESET, 3)]
    connection.receive(setting(4, 5), 0.0)  # now 5 below nothing
    assert [k for k, *_ in written(connection)] == [SETTINGS]
    connection.receive(setting(4, 100), 0.0)
    found = [(k, n) for k, _, n, _ in written(connection)]
    assert found == [(SETTINGS, 0), (DATA, 1), (HEADERS, 1), (RESET, 1)]
    assert connection.streams == 0


def test_a_client_gets_room_for_what_was_taken_and_for_no_more():
    connection, _ = greeted(OPEN)
    piece = frame(DATA, 0, 1, bytes(FRAME_BYTES))
    total = 0
    for _ in range(3 * OUR_WINDOW // FRAME_BYTES):
        (said,) = connection.receive(piece, 0.0)
        connection.took(1, said.size)
        total += said.size
    assert not connection.closed
    given = sum(int.from_bytes(f) for k, _, n, f in written(connection) if (k, n) == (WINDOW, 1))
    assert total - FIRST_WINDOW < given <= total


def test_after_goodbye_no_stream_is_taken_and_the_others_go_on():
    connection, _ = greeted(OPEN)
    connection.end(Code.NO_ERROR)
    connection.end(Code.NO_ERROR)
    assert connection.receive(frame(HEADERS, END_HEADERS, 3, BLOCK), 0.0) == []
    connection.send(1, b"still here")
    assert [k for k, *_ in written(connection)] == [GOAWAY, RESET, DATA]
    assert not connection.closed


def test_many_large_messages_wait_as_they_are_and_are_not_copied():
    opened = b"".join(frame(HEADERS, END_HEADERS, n, BLOCK) for n in range(1, 21, 2))
    connection, _ = greeted(HELLO + opened + setting(4, 1 << 30))
    connection.receive(frame(WINDOW, 0, 0, word(1 << 30)), 0.0)
    body = bytes(16_000)
    sent = [connection.send(n, body) for n in range(1, 21, 2) for _ in range(10)]
    assert sum(sent) * 16_000 < 2 << 16
    assert len(connection.output(1)) < 3 << 16


# What nobody thought of: nothing but `Broken` ever ends a connection, and nothing grows.

PIECES = [
    frame(SETTINGS, 0, 0, b""),
    setting(4, 0),
    setting(4, 70_000),
    frame(PING, 0, 0, bytes(8)),
    frame(HEADERS, END_HEADERS, 1, BLOCK),
    frame(HEADERS, END_HEADERS | END, 3, BLOCK),
    frame(HEADERS, 0, 5, BLOCK[:9]),
    frame(MORE, END_HEADERS, 5, BLOCK[9:]),
    frame(HEADERS, END_HEADERS, 7, encoded(*REQUEST, ("a", "b" * 300))),
    frame(DATA, 0, 1, b"\0\0\0\0\x03abc"),
    frame(DATA, 0, 1, bytes(3000)),
    frame(DATA, PADDED | END, 7, b"\x02abc\0\0"),
    frame(WINDOW, 0, 0, word(1000)),
    frame(WINDOW, 0, 1, word(1000)),
    frame(RESET, 0, 1, word(8)),
    frame(PRIORITY, 0, 9, bytes(5)),
    frame(GOAWAY, 0, 0, bytes(8)),
    frame(0x20, 0, 1, b"unknown"),
]


def used(connection, raw, chunk):
    """Receive ``raw`` in chunks, use what comes of it as a server does, and look at its bounds."""
    for at in range(0, len(raw), chunk):
        for event in connection.receive(raw[at : at + chunk], at / 1000):
            if isinstance(event, Opened):
                connection.head(event.stream, BLOCK)
                connection.send(event.stream, b"12345", bytes(40_000))
            elif isinstance(event, Said):
                connection.took(event.stream, event.size)
                if event.ended:
                    connection.finish(event.stream, BLOCK)
        output = connection.output(1 << 16)
        assert len(output) < 3 << 16
        assert connection._reader.held < FRAME_BYTES + 9
        assert connection.streams <= BOUNDS.streams
        assert connection._block is None or len(connection._block[2]) <= 2 * FRAME_BYTES
        frames(output)


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(1, 5000))
def test_whole_frames_in_any_order_are_taken_or_refused(pieces, chunk):
    used(Connection(BOUNDS, 0.0), HELLO + b"".join(pieces), chunk)


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
    st.integers(1, 5000),
)
def test_frames_with_wrong_bytes_are_taken_or_refused(pieces, dice, chunk):
    raw = bytearray(b"".join(pieces))
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(raw))
        match dice.randrange(3):
            case 0:
                raw[at] ^= 1 << dice.randrange(8)
            case 1:
                raw[at:at] = dice.randbytes(dice.randint(1, 9))
            case 2:
                del raw[at : at + dice.randint(1, 9)]
                raw = raw or bytearray(1)
    used(Connection(BOUNDS, 0.0), HELLO + bytes(raw), chunk)


@given(st.binary(max_size=3000))
def test_bytes_of_any_kind_are_taken_or_refused(raw):
    used(Connection(BOUNDS, 0.0), raw, 512)
    used(Connection(BOUNDS, 0.0), HELLO + raw, 512)
    used(Connection(BOUNDS, 0.0), HELLO + frame(HEADERS, END_HEADERS, 1, raw[:1000]), 512)


def test_a_client_that_opens_its_window_for_each_answer_is_not_idle():
    connection, _ = greeted(OPEN)
    for _ in range(1000):
        connection.send(1, b"answer")
        connection.receive(frame(WINDOW, 0, 0, word(6)) + frame(WINDOW, 0, 1, word(6)), 0.0)
        connection.output(1 << 16)
    assert not connection.closed
