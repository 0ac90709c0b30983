"""Header fields between two connections: which travel on, and which are made fresh.

Source: RFC 9110 section 7.6
"""

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

Fields = CIMultiDict[str] | CIMultiDictProxy[str]


def onward(given: Fields, *, peer: str, host: str, consumer: str) -> CIMultiDict[str]:
    """Return the fields of a request as the upstream gets them.

    The key is removed. Who calls, from where and what for is said afresh: what a client
    claims about that is dropped, and so are the fields that steer Envoy.

    Args:
        given: As received.
        peer: The client's address.
        host: What the client called.
        consumer: Name of the consumer who was identified.
    """
    kept = _kept(given)
    for name in [
        name
        for name in kept
        if (lower := name.lower().replace("_", "-")) in _NOT_FROM_CLIENTS
        or lower.startswith(_NOT_FROM_CLIENTS_PREFIXES)
    ]:
        kept.popall(name, None)
    kept["X-Forwarded-For"] = peer
    kept["X-Forwarded-Proto"] = "http"
    kept["X-Forwarded-Host"] = host
    kept["X-Wherry-Consumer"] = consumer
    kept.add("Via", VIA)
    return kept


def back(given: Fields) -> CIMultiDict[str]:
    """Return the fields of an answer as the client gets them."""
    kept = _kept(given)
    for name in [name for name in kept if name.lower().startswith("x-envoy-")]:
        kept.popall(name, None)
    kept.add("Via", VIA)
    kept.setdefault("Server", "wherry")
    return kept


def _kept(given: Fields) -> CIMultiDict[str]:
    dropped = _HOP_BY_HOP
    if "connection" in given:
        named = (name for line in given.getall("connection") for name in line.split(","))
        dropped = dropped.union(name.strip().lower() for name in named)
    return CIMultiDict(
        [(name, value) for name, value in given.items() if name.lower() not in dropped]
    )
