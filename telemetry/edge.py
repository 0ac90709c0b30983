"""What one access log entry says, as plain values."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

UNKNOWN = "unknown"
"""Stands where Envoy could not tell."""

_AS_HTTP = dict(
    enumerate((200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401))
)
"""HTTP's statuses for those of gRPC.

Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
"""

_CANCELLED = 1
_LEFT = frozenset({"DC", "DR"})
"""Flags of a client that left; the program had no time to send a status."""

Reporter = Literal["source", "destination", "unknown"]
"""Which of the two Envoys on the way of a request reports it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Requests that are counted together.

    Attributes:
        reporter: The caller's Envoy, or that of the service called.
        source: Service or function that calls.
        destination: Service that is called.
        code: HTTP status sent downstream; 0 when the caller left before one was sent.
        protocol: ``http`` or ``grpc``.
        flags: Envoy's response flags in their short form, joined by commas; ``-`` for none.
    """

    reporter: Reporter
    source: str
    source_version: str
    destination: str
    destination_version: str
    code: int
    protocol: Literal["http", "grpc"]
    flags: str

    @property
    def failed(self) -> bool:
        """Whether the answer was an error of the server or of the mesh (5xx)."""
        return self.code >= HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that ended.

    Attributes:
        milliseconds: From its first byte to the last byte of the answer.
        usage: What the check service said of it, for who counts the use of API products; empty
            when it was not asked.
        received: Bytes of the request's body.
        sent: Bytes of the answer's body.
        grpc_status: Of a call of gRPC; None of others, and where it is not known.
    """

    edge: Edge
    milliseconds: float
    usage: str = ""
    received: int = 0
    sent: int = 0
    grpc_status: int | None = None

    @property
    def status(self) -> int:
        """Of the answer; 0 when the caller left before there was one.

        A call of gRPC always ends with 200 in HTTP; its own status is told as HTTP would.
        """
        if self.grpc_status is None or self.edge.code != HTTPStatus.OK:
            return self.edge.code
        if not _LEFT.isdisjoint(self.edge.flags.split(",")):
            return _AS_HTTP[_CANCELLED]
        return _AS_HTTP.get(self.grpc_status, HTTPStatus.INTERNAL_SERVER_ERROR)


OVERFLOW = Edge("unknown", "overflow", UNKNOWN, "overflow", UNKNOWN, 0, "http", "-")
"""Stands for every edge past the limit of a `telemetry.rollup.Rollup`."""
