"""What a discovery server did, in numbers."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from xds.resource import TypeUrl

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the convergence histogram, in seconds; what is over the last goes beside."""


@dataclass(slots=True)
class Tally:
    """Counters since the start; each only grows. One owner: the server's event loop.

    Attributes:
        pushes: Responses sent, by type.
        sent_bytes: Their size, by type.
        acks: Responses accepted, by type.
        nacks: Responses refused, by type.
        requests: Requests read.
        opened: Streams opened, by service and variant.
        refused: Streams and requests refused, by reason.
        delayed: Streams that waited because their client opened too many.
        converged: Times from a change to a client that has it, by bucket of `BOUNDS`.
        converged_seconds: Those times added up.
    """

    pushes: Counter[TypeUrl] = field(default_factory=Counter)
    sent_bytes: Counter[TypeUrl] = field(default_factory=Counter)
    acks: Counter[TypeUrl] = field(default_factory=Counter)
    nacks: Counter[TypeUrl] = field(default_factory=Counter)
    requests: int = 0
    opened: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    delayed: int = 0
    converged: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    converged_seconds: float = 0.0

    def converge(self, seconds: float) -> None:
        """Count a client that has a change ``seconds`` after it was made."""
        self.converged[bisect_left(BOUNDS, seconds)] += 1
        self.converged_seconds += seconds
