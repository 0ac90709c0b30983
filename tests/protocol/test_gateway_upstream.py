"""The client towards upstreams against servers that speak HTTP in every way, good and bad."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from multidict import CIMultiDict

from gateway.body import Body
from gateway.problem import Refused
from gateway.upstream.client import Client
from gateway.upstream.pool import Place
from gateway.upstream.trouble import BrokenOff, Late, NoConnection, NoHttp

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"


class Server:
    """Answers each request head with the next of its answers; None hangs up instead."""

    def __init__(self, answers):
        self.answers, self.heads = list(answers), []
        self.connections = 0
        self.place = None

    async def served(self, reader, writer):
        self.connections += 1
        try:
            while self.answers:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def upstream(*answers):
    made = Server(answers)
    server = await asyncio.start_server(made.served, "127.0.0.1", 0)
    made.place = Place(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    async with Client.open() as client:
        yield made, client
        server.close()


async def ask(made, client, method="GET", body=b"", seconds=5.0, **headers):
    return await client.exchange(
        made.place,
        method,
        "/",
        host="up",
        headers=CIMultiDict(headers),
        body=body,
        seconds=seconds,
    )


async def whole(exchange, seconds=5.0):
    pieces = []
    try:
        while piece := await exchange.piece(seconds):
            pieces.append(piece)
    finally:
        exchange.close()
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (GOOD, 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n" + GOOD,
            200,
            b"ok",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
            200,
            b"ok",
        ),
    ],
)
async def test_an_answer_with_an_end_leaves_the_connection_for_the_next(answer, status, body):
    async with upstream(answer, GOOD) as (made, client):
        exchange = await ask(made, client)
        assert exchange.status == status
        assert await whole(exchange) == body
        assert ("X", "1") not in exchange.fields
        assert await whole(await ask(made, client)) == b"ok"
        assert made.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        GOOD + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        GOOD + b"more",
    ],
)
async def test_a_connection_that_may_not_be_used_again_is_not(answer):
    async with upstream(answer, GOOD) as (made, client):
        for _ in range(2):
            exchange = await ask(made, client)
            assert exchange.status == 200
            assert await whole(exchange) == b"ok"
        assert made.connections == 2


async def test_the_answer_to_head_has_no_body_whatever_it_says():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with upstream(head, GOOD) as (made, client):
        assert await whole(await ask(made, client, "HEAD")) == b""
        assert await whole(await ask(made, client)) == b"ok"
        assert made.connections == 1


async def test_an_answer_without_a_length_lasts_until_its_connection_ends():
    async with upstream(b"HTTP/1.1 200 OK\r\n\r\nall of it", None) as (made, client):
        made.answers.pop()
        assert await whole(await ask(made, client)) == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"this is not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + GOOD,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
    ],
)
async def test_an_answer_that_is_no_http_is_none(answer):
    async with upstream(answer) as (made, client):
        with pytest.raises(NoHttp):
            await whole(await ask(made, client))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
    ],
)
async def test_an_answer_that_breaks_off_is_said(answer):
    async with upstream(answer) as (made, client):
        exchange = await ask(made, client)
        with pytest.raises(BrokenOff):
            await whole(exchange)


async def test_a_connection_that_died_while_it_was_kept_costs_a_get_nothing():
    async with upstream(GOOD, None, GOOD) as (made, client):
        assert await whole(await ask(made, client)) == b"ok"
        assert await whole(await ask(made, client)) == b"ok"
        assert made.connections == 2


async def test_a_post_on_a_connection_that_died_is_not_sent_again():
    async with upstream(GOOD, None, GOOD) as (made, client):
        assert await whole(await ask(made, client)) == b"ok"
        with pytest.raises(BrokenOff):
            await ask(made, client, "POST", b"once")
        assert len(made.heads) == 2


async def test_a_new_connection_that_dies_at_once_is_not_tried_again():
    async with upstream(None, GOOD) as (made, client):
        with pytest.raises(BrokenOff):
            await ask(made, client)


async def test_an_upstream_that_is_silent_is_late_and_one_that_is_gone_not_there():
    async with upstream(b"", b"") as (made, client):
        with pytest.raises(Late):
            await ask(made, client, seconds=0.05)
        with pytest.raises(NoConnection):
            await client.exchange(
                Place(unix="/nowhere/mesh.sock"),
                "GET",
                "/",
                host="up",
                headers=CIMultiDict(),
                body=b"",
                seconds=1.0,
            )


async def test_a_field_with_a_line_break_in_it_is_never_sent():
    async with upstream(GOOD) as (made, client):
        for value in ("a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"):
            with pytest.raises(NoHttp):
                await ask(made, client, X=value)
        assert made.heads == []


async def test_a_long_answer_waits_in_the_upstream_and_not_in_memory():
    size = 64 << 20
    sent = asyncio.Event()

    async def served(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(bytes(1 << 20))
            await writer.drain()
        sent.set()
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    place = Place(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    async with server, Client.open() as client:
        exchange = await client.exchange(
            place, "GET", "/", host="up", headers=CIMultiDict(), body=b"", seconds=5.0
        )
        first = len(await exchange.piece(5.0))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sent.is_set()
        assert first + len(await whole(exchange)) == size


async def test_exchanges_over_the_most_connections_wait_for_their_turn(monkeypatch):
    monkeypatch.setattr("gateway.upstream.client.MAX_CONNECTIONS", 1)
    async with upstream(GOOD, GOOD, GOOD) as (made, client):

        async def one():
            return await whole(await ask(made, client))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(3)]
        assert [task.result() for task in tasks] == [b"ok"] * 3
        assert made.connections == 1


# Hostile answers


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + GOOD,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(1100)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + GOOD,
        b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip, chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"2\nok\n0\n\n",
        CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
        CHUNKED + b"2;" + b"a" * 70_000,
        CHUNKED + b"2\r\nok\r\n0\r\nX: " + b"a" * 700_000,
        CHUNKED + b"2\r\nok\r\n0\r\n" + b"X: 1\r\n" * 200_000,
    ],
)
async def test_an_answer_that_is_hostile_is_told_from_a_good_one_and_its_connection_ended(answer):
    async with upstream(answer, GOOD) as (made, client):
        with pytest.raises((NoHttp, BrokenOff)):
            await whole(await ask(made, client))
        assert client.connections <= 1
        assert await whole(await ask(made, client)) == b"ok"
        assert made.connections == 2


async def test_trailers_are_no_fields_of_the_head():
    trailers = b"2\r\nok\r\n0\r\nSet-Cookie: a=1\r\nLocation: http://evil/\r\n\r\n"
    async with upstream(CHUNKED + trailers, GOOD) as (made, client):
        exchange = await ask(made, client)
        assert await whole(exchange) == b"ok"
        assert exchange.fields == [("Transfer-Encoding", "chunked")]
        assert await whole(await ask(made, client)) == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_another_protocol_than_the_one_asked_for_is_no_answer(answer):
    async with upstream(answer) as (made, client):
        with pytest.raises(NoHttp):
            await client.exchange(
                made.place, "GET", "/",
                host="up", headers=CIMultiDict(), body=b"", seconds=5.0, upgrade="websocket",
            )  # fmt: skip


async def test_head_is_not_answered_with_another_protocol_either():
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    async with upstream(answer) as (made, client):
        with pytest.raises(NoHttp):
            await ask(made, client, method="HEAD")


async def test_an_answer_before_the_request_ends_is_taken_and_the_connection_not_used_again():
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    async with upstream(early, GOOD) as (made, client):
        source = Endless()
        exchange = await client.exchange(
            made.place, "POST", "/",
            host="up", headers=CIMultiDict(), body=Body(source, 1 << 30), seconds=5.0,
        )  # fmt: skip
        assert (exchange.status, await whole(exchange)) == (413, b"no")
        assert await whole(await ask(made, client)) == b"ok"
        assert made.connections == 2


async def test_a_body_that_the_client_does_not_send_is_not_the_upstreams_delay():
    async with upstream(GOOD) as (made, client):
        made.answers.insert(0, b"")
        with pytest.raises(Refused) as refused:
            await client.exchange(
                made.place, "POST", "/",
                host="up", headers=CIMultiDict(), body=Body(Endless(), 99), seconds=0.2,
            )  # fmt: skip
        assert refused.value.status == 408


class Endless:
    """A body of which nothing comes."""

    length, empty = 10, False

    def arrived(self):
        """Nothing did."""
        return

    async def pieces(self):
        """Wait for ever."""
        await asyncio.Event().wait()
        yield b""
