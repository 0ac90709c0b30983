"""What one Pilot takes on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on.

    Attributes:
        streams: Most discovery streams at once; more are refused with RESOURCE_EXHAUSTED.
        streams_per_node: Most of them with one node id. An Envoy that does not use ADS opens one
            for each cluster's endpoints.
        openings_per_second: How fast a node may open further ones after that many; then they
            wait.
        types: Most resource types on one stream.
        names: Most resource names that one stream asks for, all types together.
        message_bytes: Longest request.
        metadata_bytes: Longest gRPC metadata of a call.
        first_request_seconds: Longest that a new stream may stay silent.
        idle_seconds: Longest that a connection stays without a stream.
        keepalive_seconds: How long a connection may be silent before the peer is asked whether it
            is still there.
        keepalive_timeout_seconds: How long it has to answer; then the connection ends.
        drain_seconds: How long a client keeps a cluster that it no longer uses, for requests
            that are still on their way.
    """

    streams: int = 10_000
    streams_per_node: int = 1_000
    openings_per_second: float = 100.0
    types: int = 32
    names: int = 50_000
    message_bytes: int = 4 << 20
    metadata_bytes: int = 16 << 10
    first_request_seconds: float = 30.0
    idle_seconds: float = 300.0
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 10.0
    drain_seconds: float = 5.0
