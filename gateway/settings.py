"""What a gateway is told when it starts."""

from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

from gateway import door
from gateway.invoke import Signer
from gateway.limits.limits import MAX_PLACES
from gateway.recorder import QUEUE
from wherry.serve import Address


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the gateway listens and what it is connected to.

    Attributes:
        pepper: File of the secret under which key digests are made; made at first use.
        address: Where to listen.
        listener: Bound already, in place of ``address``: a parent holds it; None: there is none.
        lambda_url: The Lambda API, like ``http://127.0.0.1:9001``; None: no functions.
        signer: Signs requests to the Lambda API; None: it checks no signatures.
        mesh: Unix socket of the outbound HTTP listener of the gateway's Envoy; None: no
            services.
        max_calls: Most calls under way at once; more get 503.
        max_callers: See `gateway.limits.limits.Limits`.
        shared: Whether other processes count the same limits.
        max_unwritten: See `gateway.recorder.Recorder`.
        max_connections: Most connections of clients at once; more are hung up on.
        journal: Folder where usage is kept until the Store has it; None: in memory.
        idle_seconds: How long a connection may stay without a request, and how long a client
            may take nothing of its answer.
        settle_seconds: How long calls are still taken after ``readyz`` says that the end is near.
        drain_seconds: How long calls under way may take to end when the gateway stops, and
            then how long the Store may take for what they used.
    """

    pepper: Path
    address: Address = field(default_factory=lambda: Address(port=8000))
    listener: socket | None = None
    lambda_url: str | None = None
    signer: Signer | None = None
    mesh: Path | None = None
    max_calls: int = 2048
    max_callers: int = MAX_PLACES
    shared: bool = False
    max_unwritten: int = QUEUE
    max_connections: int = door.MAX_CONNECTIONS
    journal: Path | None = None
    idle_seconds: float = 75.0
    settle_seconds: float = 0.0
    drain_seconds: float = 10.0
