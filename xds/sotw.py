"""The state-of-the-world xDS stream as a state machine: no sockets, no tasks, no clock.

See `xds.stream.Stream` for what both variants have in common.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from dataclasses import dataclass

from xds.ledger import Ledger
from xds.memory import Memory
from xds.names import wanted
from xds.press import Form, Press, Response
from xds.resource import FULL_STATE, TypeUrl
from xds.snapshot import Named
from xds.stream import Stream
from xds.subscription import WILDCARD, Subscription

__all__ = ["Request", "Response", "SotwStream"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client said: a subscription, an ACK or a NACK.

    Attributes:
        type_url: The type it is about.
        names: Every name wanted; empty on a first request means all.
        nonce: Nonce of the response that it answers, empty when it answers none.
        error: Why the client refused that response, None unless it did.
        version: Version that it accepted last, on this stream or on one before.
    """

    type_url: TypeUrl
    names: frozenset[str] = frozenset()
    nonce: str = ""
    error: str | None = None
    version: str = ""


class SotwStream(Stream):
    """One client's stream. Not shared between tasks.

    Args:
        press: Where responses are made; None: one of its own.
        drain: Seconds that a cluster stays after its last use.
        memory: Says what a client holds that comes back.
        ttl: Whether the client understands resources that say how long they live.
    """

    def __init__(
        self,
        press: Press | None = None,
        *,
        drain: float = 0.0,
        memory: Memory | None = None,
        ttl: bool = False,
    ) -> None:
        form = Form.SOTW_TTL if ttl else Form.SOTW
        super().__init__(Ledger(form, press or Press(), drain=drain, memory=memory))

    def receive(self, request: Request, now: float = 0.0) -> list[Response]:
        """Take one request and return the responses that it calls for.

        A request that answers an older nonce is never answered itself: the client has yet to see
        a newer response. Only its names count, for requests arrive in order.
        """
        ledger = self._ledger
        subscription = ledger.subscriptions.get(request.type_url)
        if subscription is None:
            self._open(ledger.subscribe(request.type_url), request)
            return ledger.due(now)
        if request.nonce and request.nonce != subscription.nonce:
            if subscription.flight is not None:
                self._rename(subscription, request.names)
            return ledger.due(now)
        answered = bool(request.nonce) and subscription.flight is not None
        due = answered and ledger.answered(subscription, request.error)
        changed = self._rename(subscription, request.names)
        if answered and not (due or changed):
            return []
        if not (answered or changed or request.error or subscription.wildcard):
            # Envoy repeats its request, nonce and all, when a cluster that it warms needs
            # endpoints that it already has.
            subscription.again |= request.names
            subscription.owed = subscription.stale = True
        return ledger.due(now)

    def _open(self, subscription: Subscription, request: Request) -> None:
        subscription.legacy = not request.names
        self._rename(subscription, request.names)
        subscription.owed = True
        if not request.version:
            return
        # The client comes back. It may hold other content than it accepted last: of a response
        # that it refused it may have taken a part.
        held: Named | None = None
        if subscription.wildcard and request.type_url in FULL_STATE:
            held = self._ledger.memory.whole(request.type_url, request.version)
        if held is not None:
            subscription.held = held
        subscription.doubt = dict.fromkeys({*subscription.held, *subscription.names})

    def _rename(self, subscription: Subscription, names: frozenset[str]) -> bool:
        """Adopt ``names`` as what the client wants; return whether that is a change."""
        before = subscription.wanted
        if names:
            subscription.legacy = False
        after = wanted(
            subscription.type_url, names, wildcard=WILDCARD in names or subscription.legacy
        )
        if after is before or after == before:
            return False
        added = after.names - before.names
        if added or (after.wildcard and not before.wildcard):
            subscription.again |= added
            subscription.owed = True
        subscription.want(after)
        for name in added:
            subscription.parked.pop(name, None)
        self._ledger.stir()
        return True
