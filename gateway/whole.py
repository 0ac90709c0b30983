"""Answers whose bodies are here: head and body in one write.

aiohttp's own response would copy the fields, look most of them up and write them a second time,
which was a seventh of what a call costs.

Source: RFC 9112 sections 4, 6 and 9, RFC 9110 sections 6.6.1 and 8.6
"""

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp.web import BaseRequest, StreamResponse

from gateway.call import Answer

_PHRASES: Mapping[int, str] = {each.value: each.phrase for each in HTTPStatus}
_BODILESS = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})
_KNOWN = frozenset({"connection", "content-length", "date", "keep-alive", "transfer-encoding"})
_LOOKED_AT = frozenset(map(len, _KNOWN))
_AT_ONCE = 1 << 16
"""Most bytes of a body that is copied behind its head."""


class Sent(StreamResponse):
    """Stands for an answer that was written already.

    Args:
        keeps: Whether the connection may carry another request.
    """

    def __init__(self, *, keeps: bool) -> None:
        super().__init__()
        if not keeps:
            self.force_close()

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request."""
        return super().keep_alive is not False

    async def prepare(self, request: BaseRequest) -> None:
        """See `StreamResponse.prepare`; nothing is left to do."""
        del request

    async def write_eof(self, data: bytes = b"") -> None:
        """See `StreamResponse.write_eof`; nothing is left to do."""
        del data


_NEXT, _LAST = Sent(keeps=True), Sent(keeps=False)


async def sent(request: BaseRequest, answer: Answer, body: bytes, now_ns: int) -> Sent:
    """Send all of ``answer``; to a client that is gone nothing.

    Args:
        request: What it answers.
        answer: Its status and fields.
        body: As GET would give it; HEAD sends only what is said of it.
        now_ns: Unix nanoseconds.

    Raises:
        ValueError: A field holds a line break.
    """
    asked_head = request.method == "HEAD"
    keeps = request.keep_alive and answer.headers.get("Connection") != "close"
    head = encoded(
        answer,
        len(body),
        now_ns // 1_000_000_000,
        asked_head=asked_head,
        connection=_said(request, keeps=keeps),
    )
    transport = request.transport
    if transport is None or transport.is_closing():
        return _LAST
    if asked_head or answer.status in _BODILESS:
        transport.write(head)
    elif len(body) <= _AT_ONCE:
        transport.write(head + body)
    else:
        transport.write(head)
        transport.write(body)
    if request.protocol.writing_paused:
        try:
            await request.writer.drain()
        except ConnectionError:
            return _LAST
    return _NEXT if keeps else _LAST


def encoded(
    answer: Answer, length: int, second: int, *, asked_head: bool = False, connection: str = ""
) -> bytes:
    """Return the head of ``answer``, framed for a body of ``length`` bytes.

    Args:
        answer: Its fields; those that frame the message are made afresh.
        length: Bytes of the body that is here.
        second: Unix seconds, for an answer that has no date.
        asked_head: It answers HEAD: with no body here, the length that it says itself stays.
        connection: Its ``Connection`` field; empty is none.

    Raises:
        ValueError: A field holds a line break.
    """
    status, reason = answer.status, answer.reason
    if reason is None:
        reason = _PHRASES.get(status, "")
    lines = [f"HTTP/1.1 {status} {reason}"]
    said, dated = "", False
    for pair in answer.headers.items():
        if len(pair[0]) in _LOOKED_AT and (lower := pair[0].lower()) in _KNOWN:
            if lower == "date":
                dated = True
            else:
                said = pair[1] if lower == "content-length" else said
                continue
        # Names may be of a subclass of str, of which f-strings make a copy first.
        lines.append(": ".join(pair))
    if not dated:
        lines.append(_date(second))
    if length or not asked_head:
        said = str(length)
    if said and status not in _BODILESS:
        lines.append(f"Content-Length: {said}")
    if connection:
        lines.append(f"Connection: {connection}")
    return _joined(lines)


def _joined(lines: list[str]) -> bytes:
    breaks = len(lines) + 1
    text = "\r\n".join([*lines, "\r\n"])
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise ValueError("answer: a line break in a field, expected none")
    return text.encode("utf-8", "surrogateescape")


def _said(request: BaseRequest, *, keeps: bool) -> str:
    if not keeps:
        return "close"
    return "keep-alive" if request.version < (1, 1) else ""


@lru_cache(2)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"
