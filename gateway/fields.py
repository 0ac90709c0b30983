"""Header fields between two connections: which travel on, and which are made fresh.

Source: RFC 9110 section 7.6
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.call import Fields
from gateway.cookies import sets_ours, without_ours

VIA = "1.1 wherry"
_OURS = ("Via", VIA)
_WE = ("Server", "wherry")

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FROM_CLIENTS = frozenset(
    {
        "content-length",
        "expect",
        "forwarded",
        "host",
        "x-api-key",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    }
)
"""What a client would say of itself, and what would make another request of the one that was let
through."""
_NOT_FROM_CLIENTS_PREFIXES = ("x-forwarded-", "x-envoy-", "x-wherry-")
"""Also with ``_`` for ``-``: many servers show programs the two as one name."""

_NAMES = 1024
"""Field names of which it is remembered whether they travel on."""


_Way = Literal[0, 1, 2, 3, 4]
_ON: _Way = 0
_OFF: _Way = 1
_COOKIES: _Way = 2
_NAMES_OTHERS: _Way = 3
_SERVER: _Way = 4
"""What becomes of a field; one that names others, as it is for one connection only, goes."""


def onward(
    given: Fields,
    *,
    peer: str,
    host: str,
    consumer: str,
    scheme: str = "http",
    secrets: Iterable[str] = (),
) -> CIMultiDict[str]:
    """Return the fields of a request as the upstream gets them.

    The key is removed. Who calls, from where and what for is said afresh: what a client
    claims about that is dropped, and so are the fields that steer Envoy, those that name another
    method or target, and the cookies of our own pages.

    Args:
        given: As received.
        peer: The client's address.
        host: What the client called.
        consumer: Name of the consumer who was identified.
        scheme: How the client called.
        secrets: Fields, in lower case, that may hold what the client showed.
    """
    kept, gone = [], list[str]()
    for pair in given.items():
        way = _outward(pair[0])
        if way == _ON:
            kept.append(pair)
        elif way == _COOKIES:
            kept += _cookies_apart(pair)
        elif way == _NAMES_OTHERS:
            gone += _names(pair[1])
    gone += [name for name in secrets if name not in _NOT_FROM_CLIENTS]
    if gone:
        names = frozenset(gone)
        kept = [pair for pair in kept if pair[0].lower() not in names]
    kept.append(("X-Forwarded-For", peer))
    kept.append(("X-Forwarded-Proto", scheme))
    kept.append(("X-Forwarded-Host", host))
    kept.append(("X-Wherry-Consumer", consumer))
    kept.append(_OURS)
    return CIMultiDict(kept)


def back(given: Fields | Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Return the fields of an answer as the client gets them."""
    kept, gone, served = [], list[str](), False
    for pair in given.items() if isinstance(given, CIMultiDict | CIMultiDictProxy) else given:
        way = _homeward(pair[0])
        if way == _ON or (way == _COOKIES and not sets_ours(pair[1])):
            kept.append(pair)
        elif way == _SERVER:
            served = True
            kept.append(pair)
        elif way == _NAMES_OTHERS:
            gone += _names(pair[1])
    if gone:
        names = frozenset(gone)
        kept = [pair for pair in kept if pair[0].lower() not in names]
    kept.append(_OURS)
    if not served:
        kept.append(_WE)
    return CIMultiDict(kept)


def named(given: Fields) -> frozenset[str]:
    """Return the names, in lower case, that ``Connection`` says are for this connection only."""
    return frozenset(name for line in given.getall("connection", ()) for name in _names(line))


def readable(value: str) -> str:
    """Return the value of a field as text: bytes in it that are no UTF-8 become U+FFFD."""
    if value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(_NAMES)
def _outward(name: str) -> _Way:
    """Return what becomes of a field of a request."""
    lower = name.lower()
    if lower == "content-length":
        return _ON  # it is made afresh where the request is framed
    if lower == "cookie":
        return _COOKIES
    if lower == "connection":
        return _NAMES_OTHERS
    lower = lower.replace("_", "-")
    known = lower in _HOP_BY_HOP or lower in _NOT_FROM_CLIENTS
    return _OFF if known or lower.startswith(_NOT_FROM_CLIENTS_PREFIXES) else _ON


@lru_cache(_NAMES)
def _homeward(name: str) -> _Way:
    """Return what becomes of a field of an answer."""
    lower = name.lower()
    if lower == "set-cookie":
        return _COOKIES
    if lower == "server":
        return _SERVER
    if lower == "connection":
        return _NAMES_OTHERS
    return _OFF if lower in _HOP_BY_HOP or lower.startswith("x-envoy-") else _ON


def _names(line: str) -> list[str]:
    return [name.strip().lower() for name in line.split(",")]


def _cookies_apart(pair: tuple[str, str]) -> list[tuple[str, str]]:
    rest = without_ours(pair[1])
    return [(pair[0], rest)] if rest else []
