"""Header fields between two connections: which travel on, and which are made fresh.

Source: RFC 9110 section 7.6
"""

from collections.abc import Iterable
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy

VIA = "1.1 wherry"

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
_NOT_FROM_CLIENTS = frozenset({"expect", "forwarded", "host", "x-api-key", "x-real-ip"})
_NOT_FROM_CLIENTS_PREFIXES = ("x-forwarded-", "x-envoy-", "x-wherry-")
"""Also with ``_`` for ``-``: many servers show programs the two as one name."""

_NAMES = 1024
"""Field names of which it is remembered whether they travel on."""

Fields = CIMultiDict[str] | CIMultiDictProxy[str]


def onward(
    given: Fields, *, peer: str, host: str, consumer: str, scheme: str = "http"
) -> CIMultiDict[str]:
    """Return the fields of a request as the upstream gets them.

    The key is removed. Who calls, from where and what for is said afresh: what a client
    claims about that is dropped, and so are the fields that steer Envoy.

    Args:
        given: As received.
        peer: The client's address.
        host: What the client called.
        consumer: Name of the consumer who was identified.
        scheme: How the client called.
    """
    named = _named(given)
    kept = [
        (name, value)
        for name, value in given.items()
        if _travels_on(name) and not (named and name.lower() in named)
    ]
    kept.append(("X-Forwarded-For", peer))
    kept.append(("X-Forwarded-Proto", scheme))
    kept.append(("X-Forwarded-Host", host))
    kept.append(("X-Wherry-Consumer", consumer))
    kept.append(("Via", VIA))
    return CIMultiDict(kept)


def back(given: Fields | Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Return the fields of an answer as the client gets them."""
    fields = CIMultiDict(given)
    named = _named(fields)
    for name in tuple(fields):
        if not _comes_back(name) or (named and name.lower() in named):
            fields.popall(name, None)
    fields.add("Via", VIA)
    fields.setdefault("Server", "wherry")
    return fields


def _named(given: Fields) -> frozenset[str]:
    """Return the names that ``Connection`` says are for this connection only."""
    lines = given.getall("connection", ())
    return frozenset(name.strip().lower() for line in lines for name in line.split(","))


@lru_cache(_NAMES)
def _travels_on(name: str) -> bool:
    lower = name.lower()
    if lower in _HOP_BY_HOP:
        return False
    lower = lower.replace("_", "-")
    return lower not in _NOT_FROM_CLIENTS and not lower.startswith(_NOT_FROM_CLIENTS_PREFIXES)


@lru_cache(_NAMES)
def _comes_back(name: str) -> bool:
    lower = name.lower()
    return lower not in _HOP_BY_HOP and not lower.startswith("x-envoy-")
