"""What one access log entry says, as plain values."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

UNKNOWN = "unknown"
"""Stands where Envoy could not tell."""

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
    """

    edge: Edge
    milliseconds: float
    usage: str = ""
    received: int = 0
    sent: int = 0

    @property
    def status(self) -> int:
        """Of the answer; 0 when the caller left before there was one."""
        return self.edge.code


OVERFLOW = Edge("unknown", "overflow", UNKNOWN, "overflow", UNKNOWN, 0, "http", "-")
"""Stands for every edge past the limit of a `telemetry.rollup.Rollup`."""
