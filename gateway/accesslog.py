"""One line of JSON for each request, without query, keys or bodies."""

import json
import logging
from datetime import UTC, datetime

from gateway.passing import Trail
from wherry.clock import Clock

logger = logging.getLogger("gateway.access")
"""Each record's message is the line."""

_LONGEST = 512
"""Most characters of a path or a name in a line."""


def shown(target: str) -> str:
    """Return what of a request target may be logged: no query, and no user or password."""
    plain = target.partition("?")[0]
    return plain if plain.startswith("/") else plain.rpartition("@")[2]


def write(trail: Trail, status: int, seconds: float, clock: Clock) -> None:
    """Write the line of one request.

    Args:
        trail: What became of it.
        status: Of the answer.
        seconds: That it took.
        clock: Where the time is read.
    """
    at = datetime.fromtimestamp(clock.unix_ns() / 1e9, UTC)
    line: dict[str, object] = {
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "method": trail.request.method[:_LONGEST],
        "path": shown(trail.request.target)[:_LONGEST],
        "status": status,
        "ms": round(seconds * 1000, 3),
        "peer": trail.request.peer,
        "protocol": trail.request.protocol,
    }
    if trail.head is not None:
        line |= {"host": trail.head.host, "peer": trail.head.peer}
    if trail.route is not None:
        line |= {"product": trail.route.product, "operation": trail.route.operation}
    if trail.caller is not None:
        caller = trail.caller
        line |= {
            "consumer": caller.consumer,
            "app": caller.app,
            "credential": caller.credential,
            "authentication": caller.method,
        }
    if trail.refused is not None:
        line["refused"] = trail.refused.detail
    if (call := trail.call) is not None:
        line |= {
            "id": call.id,
            "plan": call.terms.plan,
            "upstream": call.served,
            "upstream_ms": round(call.upstream * 1000, 3),
            "bytes_in": call.received,
            "bytes_out": call.sent,
            "trace": call.trace,
        }
    logger.info("%s", json.dumps(line, separators=(",", ":")))
