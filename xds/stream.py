"""What a discovery stream is in both variants: no sockets, no tasks, no clock.

Three things happen to a stream: the client says something (`receive`, which each variant has of its
own), the desired state changes (`publish`), or the time of something has come (`tick`). Each
returns the responses to send, in order. What goes out, and when, is decided in `xds.ledger`.
"""

from collections.abc import Mapping

from xds.ledger import Ledger
from xds.press import Response
from xds.resource import TypeUrl
from xds.snapshot import Snapshot
from xds.subscription import Nack, Subscription


class Stream:
    """One client's stream. Not shared between tasks."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def nacks(self) -> Mapping[TypeUrl, Nack]:
        """What the client refuses at present, by type; gone when it accepts a newer content."""
        return self._ledger.nacks

    @property
    def subscriptions(self) -> Mapping[TypeUrl, Subscription]:
        """What the client asked for and holds, by type; to be read only."""
        return self._ledger.subscriptions

    @property
    def settled(self) -> bool:
        """Whether nothing is unacknowledged, withheld or still to be sent."""
        return self._ledger.settled

    @property
    def wake_at(self) -> float | None:
        """When to call `tick`: seconds, or None."""
        return self._ledger.wake_at()

    def publish(self, snapshot: Snapshot, now: float = 0.0) -> list[Response]:
        """Adopt a new desired state and return the responses that can go out now."""
        self._ledger.adopt(snapshot)
        return self._ledger.due(now)

    def tick(self, now: float) -> list[Response]:
        """Return the responses whose time has come."""
        return self._ledger.due(now)
