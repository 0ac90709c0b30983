"""The incremental xDS stream as a state machine: no sockets, no tasks, no clock.

The same two verbs as `xds.sotw.SotwStream`; requests and responses carry differences.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from xds.ledger import WILDCARD, Batch, Ledger, Nack, Subscription
from xds.resource import Resource, TypeUrl
from xds.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """What a client said: a change of its subscription, an ACK or a NACK, or both at once.

    Attributes:
        type_url: The type it is about.
        subscribe: Names wanted from now on; empty on a first request means all.
        unsubscribe: Names no longer wanted.
        versions: On a first request, what the client holds from an earlier stream.
        nonce: Nonce of the response that it answers, empty when it answers none.
        error: Why the client refused that response, None unless it did.
    """

    type_url: TypeUrl
    subscribe: frozenset[str] = frozenset()
    unsubscribe: frozenset[str] = frozenset()
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeltaResponse:
    """What to send next.

    Attributes:
        type_url: The type it is about.
        version: Content hash of what the client will hold of this type.
        nonce: Unique within the stream.
        resources: Those that changed, or were asked for.
        removed: Names that are gone, or never were.
    """

    type_url: TypeUrl
    version: str
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]


class DeltaStream:
    """One client's stream. Not shared between tasks."""

    def __init__(self) -> None:
        self._ledger = Ledger(delta=True)

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

    def publish(self, snapshot: Snapshot) -> list[DeltaResponse]:
        """Adopt a new desired state and return the responses that can go out now."""
        self._ledger.adopt(snapshot)
        return self._due()

    def receive(self, request: DeltaRequest) -> list[DeltaResponse]:
        """Take one request and return the responses that it calls for.

        A nonce that is not the newest answers nothing, but the rest of the request counts: a
        client states each change of its subscription only once.
        """
        ledger = self._ledger
        subscription = ledger.subscriptions.get(request.type_url)
        if subscription is None:
            self._open(ledger.subscribe(request.type_url), request)
            return self._due()
        if request.nonce and request.nonce == subscription.nonce:
            ledger.answered(subscription, request.error)
        if request.subscribe or request.unsubscribe:
            self._change(subscription, request)
        return self._due()

    @staticmethod
    def _open(subscription: Subscription, request: DeltaRequest) -> None:
        names = request.subscribe - {WILDCARD}
        subscription.names = set(names)
        subscription.wildcard = not request.subscribe or WILDCARD in request.subscribe
        subscription.claims = {
            name: version for name, version in request.versions.items() if subscription.wants(name)
        }
        subscription.again = set(names - subscription.claims.keys())
        subscription.owed = subscription.wildcard and not subscription.claims

    @staticmethod
    def _change(subscription: Subscription, request: DeltaRequest) -> None:
        if WILDCARD in request.subscribe:
            if subscription.wildcard:
                subscription.again.update(subscription.held)
            subscription.wildcard = subscription.owed = True
        names = request.subscribe - {WILDCARD}
        subscription.names |= names
        subscription.again |= names
        for name in names:
            subscription.parked.pop(name, None)
        if WILDCARD in request.unsubscribe:
            subscription.wildcard = False
        subscription.names -= request.unsubscribe
        if subscription.wildcard:
            # The client may have dropped it; the wildcard says that it still wants it.
            subscription.again |= request.unsubscribe - {WILDCARD}
        subscription.forget_unwanted()

    def _due(self) -> list[DeltaResponse]:
        return [self._response(nonce, batch) for nonce, batch in self._ledger.due()]

    @staticmethod
    def _response(nonce: str, batch: Batch) -> DeltaResponse:
        resources = tuple(batch.changed.values())
        return DeltaResponse(batch.type_url, batch.version, nonce, resources, batch.removed)
