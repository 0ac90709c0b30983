"""A connection to an upstream: bytes in, events of one exchange out.

Source: RFC 9112
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.upstream.exchange import Exchange
from gateway.upstream.message import text
from gateway.upstream.trouble import BrokenOff, NoHttp

MAX_HEAD = 1 << 16
"""Most bytes of an answer in a row that are no part of its body: its head, its trailers, what
stands around its chunks."""

MAX_FIELDS = 1000
"""Most fields of an answer's head."""

MAX_INTERIM = 16
"""Most 1xx answers before the final one."""

SWITCHING = 101
FINAL = 200
"""First status of an answer that is not followed by another."""

_LEAST, _MOST = 100, 599
_VERSIONS = ("1.1", "1.0")

_BODILESS = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; when it ended well, ``free`` is told.

    Args:
        place: Names the upstream in errors.
        free: Called with the connection when it can carry another exchange.
        lost: Called with the connection once it is closed.

    Attributes:
        used: Exchanges that it carried.
    """

    def __init__(
        self,
        place: str,
        free: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        self.place, self.used = place, 0
        self._free, self._lost = free, lost
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._ended = self._until_eof = self._raw = self._keep = self._interim = False
        self._quiet = self._taken = self._interims = 0
        self._framed = self._sent = False
        self._switches: str | None = None
        self._room: asyncio.Future[None] | None = None
        self._full = False
        self._look: asyncio.TimerHandle | None = None
        self._looks_at = inf

    @property
    def open(self) -> bool:
        """Whether it can carry an exchange."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def full(self) -> bool:
        """See `Line.full`."""
        return self._full

    def begin(
        self, method: str, head: bytes, *, whole: bool, switches: str | None = None
    ) -> Exchange:
        """Send the beginning of a request, or ``whole`` of it, and return its exchange.

        ``switches`` names the other protocol that it asks for.
        """
        self._switches = switches
        exchange = self._exchange = Exchange(self, method)
        self.used += 1
        self._ended = self._until_eof = self._raw = self._interim = False
        self._quiet = self._taken = self._interims = 0
        self._keep, self._framed, self._sent = False, False, whole
        if self._transport is None:
            exchange.fail(BrokenOff(self.place, silent=True))
        else:
            self._transport.write(head)
        return exchange

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Send more of the request."""
        if self._transport is not None:
            self._transport.write(data)
        self._sent = self._sent or last

    async def drained(self) -> None:
        """Return when there is room for more of the request, or the connection is lost."""
        if self._full:
            self._room = self._room or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    # `exchange.Line`

    def pause(self) -> None:
        """See `Line.pause`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """See `Line.resume`."""
        if self._transport is not None:
            self._transport.resume_reading()

    def look_at(self, when: float) -> None:
        """See `Line.look_at`: one timer is there for many exchanges, and rarely set anew."""
        if self._looks_at > when:
            if self._look is not None:
                self._look.cancel()
            self._look = asyncio.get_running_loop().call_at(when, self._looks)
            self._looks_at = when

    def ended(self, exchange: Exchange) -> None:
        """See `Line.ended`."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        if exchange.sender is not None and not exchange.sender.done():
            exchange.sender.cancel()
        if exchange.complete and exchange.error is None and self._keep and self._sent and self.open:
            self._free(self)
        else:
            self.close()

    # `asyncio.Protocol`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # which uvloop's are not by type

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        exchange = self._exchange
        if exchange is None or exchange.complete:
            # What nobody asked for could be taken for the answer to the next request.
            self._keep = False
            self.close()
            return
        exchange.heard = True
        if self._raw:
            exchange.feed(data)
            exchange.wake()
            return
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._switch(exchange, data[int(upgrade.args[0]) :])
        except HttpParserError:
            self._bad(exchange, "bytes that are no HTTP")
            return
        if self._quiet > MAX_HEAD:
            self._bad(exchange, "a long head", f"at most {MAX_HEAD} bytes")
        elif exchange.status == SWITCHING and not self._raw:
            self._bad(exchange, "another protocol")
        elif exchange.headed:
            exchange.wake()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        if self._look is not None:
            self._look.cancel()
        self.resume_writing()
        exchange = self._exchange
        if exchange is not None and not exchange.complete:
            whole = exc is None and (self._raw or (self._until_eof and exchange.headed))
            if whole and exchange.error is None:
                exchange.complete = True
                exchange.wake()
            else:
                exchange.fail(BrokenOff(self.place, silent=not exchange.heard))
        self._lost(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._full = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # `httptools`

    def on_message_begin(self) -> None:
        """See `httptools`."""
        if self._ended and self._exchange is not None:
            self._keep = False  # bytes after the answer

    def on_status(self, reason: bytes) -> None:
        """See `httptools`."""
        if self._exchange is not None:
            self._exchange.reason += text(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools`."""
        exchange = self._exchange
        if exchange is not None and not exchange.headed and not self._ended:
            try:
                exchange.fields.append((name.decode(), value.decode()))
            except UnicodeDecodeError:
                exchange.fields.append((text(name), text(value)))
            self._taken += len(name) + len(value)
            if len(exchange.fields) > MAX_FIELDS or self._taken > MAX_HEAD:
                many = f"at most {MAX_FIELDS} fields and {MAX_HEAD} bytes"
                self._bad(exchange, "a long head", many)
            lower = name.lower()
            if lower in (b"content-length", b"transfer-encoding"):
                self._framed = True
                if lower[:1] == b"t" and value.lower() != b"chunked":
                    self._bad(exchange, "another coding", "'chunked' or none")

    def on_headers_complete(self) -> None:
        """See `httptools`."""
        exchange = self._exchange
        if exchange is None or self._ended:
            return
        status = self._parser.get_status_code()
        if not _LEAST <= status <= _MOST:
            self._bad(exchange, f"status {status}", f"one of {_LEAST} to {_MOST}")
        elif self._parser.get_http_version() not in _VERSIONS:
            self._bad(exchange, "another version of HTTP")
        elif status == SWITCHING and self._switches is None:
            self._bad(exchange, "another protocol")
        if status < FINAL and status != SWITCHING:
            self._interim = True
            self._interims += 1
            exchange.fields, exchange.reason, self._framed = [], "", False
            return
        exchange.status, exchange.headed = status, True
        bodiless = exchange.method == "HEAD" or status in _BODILESS
        self._until_eof = not self._framed and not bodiless
        if bodiless and exchange.method == "HEAD":
            # The parser waits for the body that the fields describe; none will come.
            self._keep = self._parser.should_keep_alive()
            self._parser = HttpResponseParser(self)
            self._ended = exchange.complete = True

    def on_body(self, body: bytes) -> None:
        """See `httptools`."""
        self._quiet = 0
        if self._exchange is None or self._ended:
            self._keep = False
        else:
            self._exchange.feed(body)

    def on_message_complete(self) -> None:
        """See `httptools`."""
        exchange = self._exchange
        if self._interim:
            self._interim = False
            if exchange is not None and self._interims > MAX_INTERIM:
                self._bad(exchange, "answers without end", f"at most {MAX_INTERIM} of 1xx")
        elif exchange is not None and not self._ended and exchange.status != SWITCHING:
            self._ended = exchange.complete = True
            self._keep = self._parser.should_keep_alive()

    def _looks(self) -> None:
        self._look, self._looks_at = None, inf
        if self._exchange is not None:
            again = self._exchange.overdue(asyncio.get_running_loop().time())
            if again is not None:
                self.look_at(again)

    def _switch(self, exchange: Exchange, rest: bytes) -> None:
        offered = [value.lower() for name, value in exchange.fields if name.lower() == "upgrade"]
        if exchange.status != SWITCHING or offered != [self._switches]:
            self._bad(exchange, "another protocol")
            return
        self._raw = True
        if rest:
            exchange.feed(rest)

    def _bad(self, exchange: Exchange, found: str, expected: str = "an HTTP/1.1 answer") -> None:
        exchange.fail(NoHttp(self.place, found, expected))
        self.close()
