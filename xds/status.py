"""What a stream looks like from outside: immutable, for status pages and tests."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from xds.ledger import Subscription
from xds.node import Node
from xds.resource import TypeUrl, in_order


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
    """

    type_url: TypeUrl
    wildcard: bool
    names: int
    held: tuple[tuple[str, str], ...]
    awaiting: bool
    error: str | None
    parked: tuple[str, ...]


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
    """

    node: Node
    scope: Hashable
    variant: str
    since_unix_ns: int
    settled: bool
    types: tuple[TypeStatus, ...]


def types_of(subscriptions: Mapping[TypeUrl, Subscription]) -> tuple[TypeStatus, ...]:
    """Return the status of each subscription."""
    return tuple(_type(subscriptions[type_url]) for type_url in in_order(subscriptions))


def _type(subscription: Subscription) -> TypeStatus:
    return TypeStatus(
        subscription.type_url,
        subscription.wildcard,
        len(subscription.names),
        tuple(sorted((name, r.version) for name, r in subscription.held.items())),
        subscription.flight is not None,
        subscription.nack.error if subscription.nack else None,
        tuple(sorted(subscription.parked)),
    )
