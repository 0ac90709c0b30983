"""What a stream looks like from outside: immutable, for status pages and tests."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from xds.node import Node
from xds.resource import TypeUrl, in_order
from xds.subscription import Subscription


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type on one stream.

    Attributes:
        type_url: The type.
        wildcard: Whether the client asked for everything.
        names: How many resources it asked for by name.
        held: Names and versions that it acknowledged, sorted.
        awaiting: Whether a response is unacknowledged.
        error: Why the client refuses what is desired; None unless it does.
        parked: Resources held back because of that, sorted.
        version: Version of the newest response that it accepted; empty before the first.
        faults: Name, refused version and reason of each resource that is held back, sorted.
        nacked_at_unix_ns: When it last refused a response; None when it never did.
    """

    type_url: TypeUrl
    wildcard: bool
    names: int
    held: tuple[tuple[str, str], ...]
    awaiting: bool
    error: str | None
    parked: tuple[str, ...]
    version: str = ""
    faults: tuple[tuple[str, str, str], ...] = ()
    nacked_at_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One connected stream.

    Attributes:
        node: Who is at the other end, as it says.
        scope: What it gets.
        variant: ``sotw`` or ``delta``.
        since_unix_ns: When its first request came.
        settled: Whether it is known to hold exactly what is desired.
        types: In the order in which they go out.
        service: ``ads``, or the short name of the type's own service.
        sent: Responses sent.
        sent_bytes: Their size.
        scope_size: Resources that its scope has; None before the first snapshot.
    """

    node: Node
    scope: Hashable
    variant: str
    since_unix_ns: int
    settled: bool
    types: tuple[TypeStatus, ...]
    service: str = "ads"
    sent: int = 0
    sent_bytes: int = 0
    scope_size: int | None = None


def types_of(
    subscriptions: Mapping[TypeUrl, Subscription], nacked_at: Mapping[TypeUrl, int]
) -> tuple[TypeStatus, ...]:
    """Return the status of each subscription; ``nacked_at`` in Unix nanoseconds."""
    return tuple(
        _type(subscriptions[type_url], nacked_at.get(type_url))
        for type_url in in_order(subscriptions)
    )


def _type(subscription: Subscription, nacked_at: int | None) -> TypeStatus:
    nack = subscription.nack
    return TypeStatus(
        subscription.type_url,
        subscription.wildcard,
        len(subscription.names),
        tuple(sorted((name, r.version) for name, r in subscription.held.items())),
        subscription.flight is not None,
        nack.error if nack else None,
        tuple(sorted(subscription.parked)),
        subscription.accepted_version,
        tuple((name, *fault) for name, fault in sorted(subscription.parked.items())),
        nacked_at,
    )
