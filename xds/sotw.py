"""The state-of-the-world xDS stream as a state machine: no sockets, no tasks, no clock.

Two things happen to a stream: the client says something (`SotwStream.receive`) or the desired
state changes (`SotwStream.publish`). Each returns the responses to send, in order. What goes out,
and when, is decided in `xds.ledger`.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xds.ledger import WILDCARD, Batch, Ledger, Nack, Subscription
from xds.resource import FULL_STATE, Resource, TypeUrl
from xds.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Request:
    """What a client said: a subscription, an ACK or a NACK.

    Attributes:
        type_url: The type it is about.
        names: Every name wanted; empty on a first request means all.
        nonce: Nonce of the response that it answers, empty when it answers none.
        error: Why the client refused that response, None unless it did.
    """

    type_url: TypeUrl
    names: frozenset[str] = frozenset()
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What to send next.

    Attributes:
        type_url: The type it is about.
        version: Content hash of what the client will hold of this type.
        nonce: Unique within the stream.
        resources: Of a type in `FULL_STATE` all that the client should hold, of another type
            those that changed.
    """

    type_url: TypeUrl
    version: str
    nonce: str
    resources: tuple[Resource, ...]


class SotwStream:
    """One client's stream. Not shared between tasks."""

    def __init__(self) -> None:
        self._ledger = Ledger(delta=False)

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

    def publish(self, snapshot: Snapshot) -> list[Response]:
        """Adopt a new desired state and return the responses that can go out now."""
        self._ledger.adopt(snapshot)
        return self._due()

    def receive(self, request: Request) -> list[Response]:
        """Take one request and return the responses that it calls for.

        A request that answers an older nonce is never answered itself: the client has yet to see
        a newer response. Only its names count, for requests arrive in order.
        """
        ledger = self._ledger
        subscription = ledger.subscriptions.get(request.type_url)
        if subscription is None:
            subscription = ledger.subscribe(request.type_url)
            subscription.wildcard = subscription.legacy = not request.names
            self._rename(subscription, request.names)
            subscription.owed = True
            return self._due()
        if request.nonce and request.nonce != subscription.nonce:
            if subscription.flight is not None:
                self._rename(subscription, request.names)
            return self._due()
        answered = bool(request.nonce) and subscription.flight is not None
        if answered:
            ledger.answered(subscription, request.error)
        changed = self._rename(subscription, request.names)
        if not (answered or changed or request.error or subscription.wildcard):
            # Envoy repeats its request, nonce and all, when a cluster that it warms needs
            # endpoints that it already has.
            subscription.again |= request.names
            subscription.owed = True
        return self._due()

    @staticmethod
    def _rename(subscription: Subscription, names: frozenset[str]) -> bool:
        """Adopt ``names`` as what the client wants; return whether that is a change."""
        explicit = names - {WILDCARD}
        wildcard = WILDCARD in names
        if names:
            subscription.legacy = False
        elif subscription.legacy:
            wildcard = True
        if explicit == subscription.names and wildcard == subscription.wildcard:
            return False
        added = explicit - subscription.names
        if added or (wildcard and not subscription.wildcard):
            subscription.again |= added
            subscription.owed = True
        subscription.names, subscription.wildcard = set(explicit), wildcard
        subscription.forget_unwanted()
        for name in added:
            subscription.parked.pop(name, None)
        return True

    def _due(self) -> list[Response]:
        return [self._response(nonce, batch) for nonce, batch in self._ledger.due()]

    @staticmethod
    def _response(nonce: str, batch: Batch) -> Response:
        sent = batch.target if batch.type_url in FULL_STATE else batch.changed
        return Response(batch.type_url, batch.version, nonce, tuple(sent.values()))
