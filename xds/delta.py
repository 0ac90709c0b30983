"""The incremental xDS stream as a state machine: no sockets, no tasks, no clock.

The same verbs as `xds.sotw.SotwStream` has (`xds.stream.Stream`); requests and responses carry
differences.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from xds.ledger import Ledger
from xds.memory import Memory
from xds.names import wanted
from xds.press import Form, Press, Response
from xds.resource import TypeUrl
from xds.stream import Stream
from xds.subscription import WILDCARD, Subscription

__all__ = ["DeltaRequest", "DeltaStream", "Response"]


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


class DeltaStream(Stream):
    """One client's stream. Not shared between tasks.

    Args:
        press: Where responses are made; None: one of its own.
        drain: Seconds that a cluster stays after its last use.
        memory: Says what a client holds that comes back.
    """

    def __init__(
        self,
        press: Press | None = None,
        *,
        drain: float = 0.0,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(Ledger(Form.DELTA, press or Press(), drain=drain, memory=memory))

    def receive(self, request: DeltaRequest, now: float = 0.0) -> list[Response]:
        """Take one request and return the responses that it calls for.

        A nonce that is not the newest answers nothing, but the rest of the request counts: a
        client states each change of its subscription only once.
        """
        ledger = self._ledger
        subscription = ledger.subscriptions.get(request.type_url)
        if subscription is None:
            self._open(ledger.subscribe(request.type_url), request)
            return ledger.due(now)
        due = False
        if request.nonce and request.nonce == subscription.nonce:
            due = ledger.answered(subscription, request.error)
        if request.subscribe or request.unsubscribe:
            self._change(subscription, request)
            ledger.stir()
            due = True
        return ledger.due(now) if due else []

    @staticmethod
    def _open(subscription: Subscription, request: DeltaRequest) -> None:
        everything = not request.subscribe or WILDCARD in request.subscribe
        want = wanted(request.type_url, request.subscribe, wildcard=everything)
        subscription.want(want)
        subscription.claims = {
            name: version for name, version in request.versions.items() if want.covers(name)
        }
        subscription.again = set(want.names - subscription.claims.keys())
        subscription.owed = (everything or bool(want.prefixes)) and not subscription.claims

    @staticmethod
    def _change(subscription: Subscription, request: DeltaRequest) -> None:
        before = subscription.wanted
        everything = before.wildcard
        if WILDCARD in request.subscribe:
            if everything:
                subscription.again.update(subscription.held)
            everything = subscription.owed = True
        added = request.subscribe - {WILDCARD}
        subscription.again |= added
        for name in added:
            subscription.parked.pop(name, None)
        if WILDCARD in request.unsubscribe:
            everything = False
        names = (before.names | added) - request.unsubscribe
        if everything:
            # The client may have dropped it; the wildcard says that it still wants it.
            subscription.again |= request.unsubscribe - {WILDCARD}
        after = wanted(subscription.type_url, names, wildcard=everything)
        subscription.owed |= after.prefixes != before.prefixes
        subscription.want(after)
