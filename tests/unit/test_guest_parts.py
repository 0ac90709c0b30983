"""Parts of the guest's agent by themselves: HTTP, slots, rounds, subscribers, wires."""

import json
import socket
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest

from faas.guest.http1 import BadRequest, Body, read_request
from faas.guest.link import Kind, Link
from faas.guest.memory import Peak
from faas.guest.rounds import RUNTIME, Rounds
from faas.guest.slot import Slot
from faas.guest.subscriber import Destination, Subscriber, Wants
from faas.guest.wire import HostGone, Listening, Replaced, Stream
from faas.image.layers import merged


def body(data: bytes, **headers: str) -> Body:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Body(BytesIO(data), named)


def test_a_chunked_body_is_read_with_its_trailers():
    read = body(
        b"4\r\nabcd\r\n2;x=y\r\nef\r\n0\r\nName: value\r\n\r\n", transfer_encoding="chunked"
    )
    assert b"".join(read.pieces()) == b"abcdef"
    assert (read.size, read.trailers) == (6, {"name": "value"})
    assert list(read.pieces()) == []


def test_a_body_over_the_limit_is_counted_and_dropped():
    read = body(b"x" * 1000, content_length="1000")
    assert read.collected(999) is None
    assert read.size == 1000


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"abc", {"content_length": "4"}),
        (b"4\r\nab", {"transfer_encoding": "chunked"}),
        (b"zz\r\n", {"transfer_encoding": "chunked"}),
    ],
)
def test_a_body_that_ends_early_is_refused(data, headers):
    with pytest.raises(BadRequest):
        body(data, **headers).collected(100)


def test_a_length_that_is_no_number_is_refused():
    with pytest.raises(BadRequest, match="not a length"):
        body(b"", content_length="-1")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + (b"a: " + b"b" * (1 << 20) + b"\r\n") * 4 + b"\r\n",
    ],
)
def test_heads_over_a_limit_are_refused(head):
    with socket.socket() as client, pytest.raises(BadRequest):
        read_request(client, BytesIO(head))


def test_a_slot_gives_what_it_holds_and_nothing_to_a_client_that_left():
    slot = Slot()
    client, far = socket.socketpair()
    with client, far:
        slot.put({"a": "1"}, b"old")
        slot.put({"a": "2"}, b"new")
        assert slot.take(client) == ({"a": "2"}, b"new")
        far.close()
        assert slot.take(client) is None
    slot.put({}, b"kept")
    client, far = socket.socketpair()
    with client, far:
        assert slot.take(client) == ({}, b"kept")


def test_a_round_is_over_when_the_runtime_and_all_extensions_wait():
    over: list[int] = []
    rounds = Rounds(lambda: over.append(1))
    rounds.join("extension")
    rounds.waits(RUNTIME)
    assert over == []
    rounds.waits("extension")
    assert over == [1]
    rounds.waits("extension")
    assert over == [1]
    rounds.works({RUNTIME})
    rounds.waits(RUNTIME)
    assert over == [1, 1]


def subscriber(port: int, path: str | None = "/", **fields: object) -> Subscriber:
    given = {
        "types": frozenset({"function"}),
        "destination": Destination(port, path),
        "items": 10,
        "size": 1000,
        "patience": 0.01,
    }
    return Subscriber("listener", Wants(**given | fields))


def event(number: int, kind: str = "function") -> dict[str, object]:
    return {"time": "2026-01-01T00:00:00.000Z", "type": kind, "record": f"line {number}"}


def test_a_subscriber_that_falls_behind_loses_events_which_are_counted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        behind = subscriber(server.getsockname()[1], None)
        for number in range(100):
            behind.offer(event(number))
        behind.offer(event(1, "platform.start"))
        behind.start()
        seen: list[dict[str, object]] = []
        while not seen or seen[-1]["record"] != "late":
            connection, _ = server.accept()
            with connection, connection.makefile() as lines:
                seen += [json.loads(line) for line in lines]
            if len(seen) > 10 and not any(each["record"] == "late" for each in seen):
                behind.offer({**event(0), "record": "late"})
        behind.stop()
    dropped = [each for each in seen if each["type"] == "platform.logsDropped"]
    kept = [each["record"] for each in seen if str(each["record"]).startswith("line")]
    assert kept == [f"line {number}" for number in range(40)]
    assert [each["record"]["droppedRecords"] for each in dropped] == [60]
    assert dropped[0]["time"] == "2026-01-01T00:00:00.000Z"


def test_a_flush_delivers_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        patient = subscriber(server.getsockname()[1], None, patience=60.0)
        patient.start()
        patient.offer(event(1))
        patient.flush(5)
        connection, _ = server.accept()
        with connection, connection.makefile() as lines:
            assert json.loads(lines.readline())["record"] == "line 1"
        patient.stop()


def test_a_subscriber_that_is_not_there_loses_its_events_and_learns_how_many():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    absent = subscriber(address[1], None)
    absent.start()
    absent.offer(event(1))
    absent.flush(5)
    with socket.create_server(address) as server:
        absent.offer(event(2))
        absent.flush(5)
        connection, _ = server.accept()
        with connection, connection.makefile() as lines:
            told = [json.loads(line) for line in lines]
    absent.stop()
    assert told[0]["record"] == "line 2"
    assert (told[1]["type"], told[1]["record"]["droppedRecords"]) == ("platform.logsDropped", 1)


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    return bytes([kind]) + (0).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload


def test_a_new_connection_replaces_the_old_and_what_it_left_unfinished(tmp_path):
    path = str(tmp_path / "wire")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen()
        first.connect(path)
        wire = Listening(listener)
        link = Link(wire)
        frames = link.frames()
        first.sendall(frame(Kind.CLOCK, b"12345678") + frame(Kind.LAUNCH, b"{}")[:5])
        assert next(frames) == (Kind.CLOCK, 0, b"12345678")
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(path)
            second.sendall(frame(Kind.PROCEED))
            assert next(frames) == (Kind.PROCEED, 0, b"")
            link.hello()
            assert second.recv(9)[0] == Kind.HELLO
            assert first.recv(9) == b""
            second.close()
            link.hello()
        wire._connection.close()


def test_a_host_that_leaves_a_listener_may_come_back(tmp_path):
    path = str(tmp_path / "wire")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            wire = Listening(listener)
        assert wire.read() == b""
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(path)
            with pytest.raises(Replaced):
                wire.read()
            second.sendall(b"x")
            assert wire.read() == b"x"
        wire._connection.close()


def test_the_end_of_an_inherited_socket_is_the_hosts_end():
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(HostGone):
            Stream(ours.fileno()).read()


def test_lines_of_log_wait_for_credit_and_none_is_cut(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("rb") as source:
        link = Link(Stream(ours.fileno()))
        lines = [b"x" * 1000] * 400
        sender = threading.Thread(target=link.send_logs, args=(lines,))
        sender.start()
        seen = 0
        for _ in lines:
            head = source.read(9)
            assert head[0] == Kind.LOG
            assert source.read(int.from_bytes(head[5:9], "big")) == b"x" * 1000
            seen += 1001
            if seen >= 200_000:
                link.credit(0, seen)
                seen = 0
        sender.join()


def test_layers_merge_with_files_over_folders_and_folders_over_files(tmp_path):
    for name, content in (("one/a/deep", "1"), ("one/b", "1"), ("two/a", "2"), ("two/b/x", "2")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "two/link").symlink_to("b/x")
    (tmp_path / "one/link").mkdir()
    cache = tmp_path / "cache"
    whole = merged([tmp_path / "one", tmp_path / "two"], cache)
    assert whole is not None
    assert (whole / "a").read_text() == (whole / "b/x").read_text() == "2"
    assert (whole / "link").readlink() == Path("b/x")
    assert merged([tmp_path / "one", tmp_path / "two"], cache) == whole
    assert merged([tmp_path / "one"], cache) == tmp_path / "one"
    assert merged([], cache) is None
    other = merged([tmp_path / "two", tmp_path / "one"], cache)
    assert other is not None
    assert (other / "a/deep").read_text() == "1"


_HOLDS = "import sys; held = bytearray(int(sys.argv[1]) << 20); print(flush=True); sys.stdin.read()"
_PARENT = f"""
import subprocess, sys
print(flush=True)
for line in sys.stdin:
    child = subprocess.Popen([sys.executable, "-c", {_HOLDS!r}, "40"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    child.stdout.readline()
    print(flush=True)
child.kill()
"""


def test_the_memory_of_a_process_counts_until_it_ends():
    peak = Peak()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, "10"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holds:
        holds.stdout.readline()
        alone = peak.kib([holds.pid])
        assert alone > 10 << 10
        assert peak.kib([holds.pid]) == alone
        holds.stdin.close()
        holds.wait()
        assert peak.kib([holds.pid]) == 0
        assert peak.kib([]) == 0


def test_a_process_that_begins_after_the_first_look_counts():
    peak = Peak()
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        parent.stdout.readline()
        before = peak.kib([parent.pid])
        parent.stdin.write(b"more\n")
        parent.stdin.flush()
        parent.stdout.readline()
        assert peak.kib([parent.pid]) > before + (40 << 10)
        parent.stdin.close()
