"""The channel: the host's rules against any guest, and against the guest's own half."""

import asyncio
import os
import socket
import struct
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas import channel as host
from faas.backends.guest import Guest
from faas.backends.tasks import tasks
from faas.channel import MAX_FRAME, MAX_STREAMS, PORTION, WINDOW, Channel, ChannelError, Frame, Kind
from faas.guest import link as guest
from faas.guest.runtime_api import MAX_PAYLOAD
from faas.guest.wire import HostGone, Stream
from faas.vm import MAX_PAYLOAD as HOST_MAX_PAYLOAD

frames = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.integers(0, 7),
    st.binary(max_size=64),
)


def received(channel: Channel, *sent: Frame) -> list[Frame]:
    return list(channel.receive(b"".join(frame.encoded() for frame in sent)))


def test_both_ends_know_the_same_kinds_and_limits():
    assert {kind.name: int(kind) for kind in Kind} == {k.name: int(k) for k in guest.Kind}
    assert (MAX_FRAME, WINDOW, PORTION) == (guest.MAX_FRAME, guest.WINDOW, guest.PORTION)
    assert host.LOG_STREAM == guest.LOG_STREAM
    assert MAX_PAYLOAD == HOST_MAX_PAYLOAD


@given(st.lists(frames), st.integers(1, 40))
def test_a_guest_that_sends_anything_is_understood_or_refused(sent, size):
    channel, data = Channel(), b"".join(frame.encoded() for frame in sent)
    try:
        for start in range(0, len(data), size):
            list(channel.receive(data[start : start + size]))
    except ChannelError:
        return
    assert len(channel.streams) <= MAX_STREAMS + 1


@given(st.lists(st.binary(min_size=1, max_size=300)), st.integers(1, 40))
def test_frames_arrive_whole_however_they_are_cut(payloads, size):
    channel, seen = Channel(), []
    data = Frame(Kind.CONNECT, 1).encoded()
    data += b"".join(Frame(Kind.DATA, 1, payload).encoded() for payload in payloads)
    for start in range(0, len(data), size):
        seen += channel.receive(data[start : start + size])
    assert [frame.payload for frame in seen[1:]] == payloads


def test_a_frame_over_the_limit_is_refused_before_it_arrives():
    head = struct.pack("!BII", Kind.DATA, 1, MAX_FRAME + 1)
    with pytest.raises(ChannelError, match=f"a frame of {MAX_FRAME + 1} bytes"):
        list(Channel().receive(head))


def test_a_guest_may_fill_its_window_and_not_a_byte_more():
    channel = Channel()
    full = [Frame(Kind.DATA, 1, bytes(MAX_FRAME))] * (WINDOW // MAX_FRAME)
    assert len(received(channel, Frame(Kind.CONNECT, 1), *full)) == 1 + len(full)
    with pytest.raises(ChannelError, match="1 bytes on stream 1"):
        received(channel, Frame(Kind.DATA, 1, b"x"))


def test_credit_lets_a_guest_send_again():
    channel = Channel()
    received(channel, Frame(Kind.CONNECT, 1))
    for _ in range(3 * WINDOW // MAX_FRAME):
        received(channel, Frame(Kind.DATA, 1, bytes(MAX_FRAME)))
        assert channel.consumed(1, MAX_FRAME)


def test_empty_data_and_lines_without_end_cost_something():
    channel = Channel()
    received(channel, Frame(Kind.CONNECT, 1))
    with pytest.raises(ChannelError):
        received(channel, Frame(Kind.DATA, 1))
    with pytest.raises(ChannelError):
        received(Channel(), *[Frame(Kind.LOG)] * (WINDOW + 1))


def test_a_stream_over_the_limit_comes_out_as_a_reset():
    channel = Channel()
    opened = [Frame(Kind.CONNECT, 2 * number + 1) for number in range(MAX_STREAMS + 1)]
    assert [frame.kind for frame in received(channel, *opened)] == [
        *[Kind.CONNECT] * MAX_STREAMS,
        Kind.RESET,
    ]


@pytest.mark.parametrize(
    "kind", [Kind.LAUNCH, Kind.PROCEED, Kind.CLOCK, Kind.RESTORE, Kind.HOLD, Kind.EVENT]
)
def test_a_guest_cannot_give_orders(kind):
    with pytest.raises(ChannelError, match="one that guests send"):
        received(Channel(), Frame(kind))


@pytest.mark.parametrize("stream", [0, 2])
def test_a_guest_opens_odd_streams_only(stream):
    with pytest.raises(ChannelError):
        received(Channel(), Frame(Kind.CONNECT, stream))


def test_credit_over_the_window_is_refused():
    channel = Channel()
    stream = channel.open()
    with pytest.raises(ChannelError, match="a window of"):
        received(channel, Frame(Kind.CREDIT, stream, struct.pack("!I", 1)))


def test_data_for_a_stream_that_ended_is_dropped():
    channel = Channel()
    received(channel, Frame(Kind.CONNECT, 1))
    channel.close(1)
    assert received(channel, Frame(Kind.DATA, 1, b"late"), Frame(Kind.END, 1)) == []
    assert channel.room(1) == 0


@pytest.fixture
def ends():
    """The guest's half on one end of a socket pair, the bare other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, guest.Link(Stream(theirs.fileno()))


def drained(ours: socket.socket, channel: Channel, wanted: int, *, credit: bool) -> list[Frame]:
    seen: list[Frame] = []
    while len(b"".join(frame.payload for frame in seen if frame.kind is Kind.DATA)) < wanted:
        for frame in channel.receive(ours.recv(65536)):
            seen.append(frame)
            if credit and frame.kind is Kind.DATA:
                ours.sendall(channel.consumed(frame.stream, len(frame.payload)))
    return seen


def test_the_guests_half_sends_what_the_hosts_half_accepts(ends):
    ours, link = ends
    body = os.urandom(3 * WINDOW)

    def obey():
        with suppress(HostGone):
            for _, stream, payload in link.frames():
                link.credit(stream, int.from_bytes(payload, "big"))

    def speak():
        link.send_result({"kind": "response", "request_id": "1"}, body)

    threads = [threading.Thread(target=work, daemon=True) for work in (obey, speak)]
    for thread in threads:
        thread.start()
    seen = drained(ours, Channel(), len(body), credit=True)
    ours.shutdown(socket.SHUT_WR)
    for thread in threads:
        thread.join()
    assert seen[0].kind is Kind.RESULT
    assert seen[0].fields() == {"kind": "response", "request_id": "1"}
    assert b"".join(frame.payload for frame in seen[1:] if frame.kind is Kind.DATA) == body


def test_the_guests_half_stops_where_its_window_ends(ends):
    ours, link = ends
    sender = threading.Thread(
        target=link.send_result, args=({"kind": "response"}, bytes(2 * WINDOW)), daemon=True
    )
    sender.start()
    drained(ours, Channel(), WINDOW, credit=False)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    link.close(1)
    sender.join()


def test_the_guests_half_reads_what_the_hosts_half_sends(ends):
    ours, link = ends
    channel = Channel()
    stream = channel.open()
    sent = [
        Frame(Kind.EVENT, stream, host.document({"a": "b"})).encoded(),
        channel.data(stream, b"body"),
        Frame(Kind.END, stream).encoded(),
        Frame(Kind.CLOCK, payload=host.moment(5, b"entropy")).encoded(),
    ]
    ours.sendall(b"".join(sent))
    ours.shutdown(socket.SHUT_WR)
    seen = []
    with pytest.raises(HostGone):
        seen.extend(link.frames())
    assert seen == [
        (guest.Kind.EVENT, stream, b'{"a": "b"}'),
        (guest.Kind.DATA, stream, b"body"),
        (guest.Kind.END, stream, b""),
        (guest.Kind.CLOCK, 0, struct.pack("!Q", 5) + b"entropy"),
    ]


def test_a_document_over_a_frame_is_refused():
    with pytest.raises(ChannelError, match="a document of"):
        host.document({"a": "x" * MAX_FRAME})


def test_a_document_without_end_is_no_document():
    with pytest.raises(ChannelError):
        Frame(Kind.EXIT, payload=b"[" * MAX_FRAME).fields()


async def test_a_guest_that_opens_and_resets_streams_without_end_holds_few_connections():
    with tempfile.TemporaryDirectory() as folder:
        most, open_now = 0, 0
        every = asyncio.Event()

        async def serve(reader, writer):
            nonlocal most, open_now
            open_now += 1
            most = max(most, open_now)
            with suppress(ConnectionError):
                while await reader.read(1024):
                    pass
            open_now -= 1
            writer.close()
            if not open_now:
                every.set()

        server = await asyncio.start_unix_server(serve, f"{folder}/egress", backlog=4096)
        ours, theirs = socket.socketpair()
        async with server, tasks() as running:
            other_end = Guest(
                "f-1",
                await asyncio.open_connection(sock=ours),
                egress=Path(folder, "egress"),
                logs=lambda _: None,
                tasks=running,
            )
            _, writer = await asyncio.open_connection(sock=theirs)
            before = len(asyncio.all_tasks())
            flood = b"".join(
                Frame(kind, stream).encoded()
                for stream in range(1, 4001, 2)
                for kind in (Kind.CONNECT, Kind.RESET)
            )
            writer.write(flood + Frame(Kind.HELLO).encoded())
            async with asyncio.timeout(10):
                await other_end.hello()
                assert len(asyncio.all_tasks()) - before <= 3 * MAX_STREAMS
                await every.wait()
            assert most <= MAX_STREAMS
            other_end.close()
            writer.close()
