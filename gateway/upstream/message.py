"""The head of a request in bytes, and how its body is framed.

Source: RFC 9112 sections 3, 6 and 7
"""

import re

from gateway.call import Fields
from gateway.upstream.trouble import NoHttp

_EMPTY_IS_SAID = frozenset({"POST", "PUT", "PATCH"})
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_LENGTHS = frozenset(map(len, _FRAMING))
_TARGET = re.compile(r"[\x21-\x7e]+")


def encoded(
    method: str,
    target: str,
    host: str,
    headers: Fields,
    *,
    length: int | None,
    upgrade: str | None = None,
) -> bytes:
    """Return a request's head.

    Args:
        method: A token.
        target: In origin form.
        host: The ``Host`` field.
        headers: All other fields; those that frame the message are made afresh.
        length: Bytes of the body; None: it is sent in chunks.
        upgrade: Protocol to change to, or None.

    Raises:
        NoHttp: A part of it cannot stand in a head.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    # Names may be of a subclass of str, of which f-strings make a copy first.
    lines += [
        ": ".join(pair)
        for pair in headers.items()
        if len(pair[0]) not in _LENGTHS or pair[0].lower() not in _FRAMING
    ]
    if length is None:
        lines.append("Transfer-Encoding: chunked")
    elif length or method in _EMPTY_IS_SAID:
        lines.append(f"Content-Length: {length}")
    if upgrade is not None:
        lines.append(f"Connection: upgrade\r\nUpgrade: {upgrade}")
    breaks = len(lines) + (upgrade is not None)
    text = "\r\n".join([*lines, "\r\n"])
    if text.count("\n") != breaks + 1 or text.count("\r") != breaks + 1 or "\0" in text:
        raise NoHttp(host, "a line break in a field", "none")
    if not _TARGET.fullmatch(target):
        raise NoHttp(host, "a target with spaces or controls", "none")
    return text.encode("utf-8", "surrogateescape")


def chunk(piece: bytes) -> bytes:
    """Return one chunk of a chunked body; ``piece`` is not empty."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


def text(raw: bytes) -> str:
    """Return a field's name or value as text; what is no UTF-8 is Latin-1, as HTTP once had it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
