"""What one client holds of all types together: what it has, and what it may still need."""

from collections.abc import Mapping

from xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
    Ref,
    TypeUrl,
    rank,
)
from xds.snapshot import Snapshot
from xds.subscription import Subscription, plain

MAY_REFER: Mapping[TypeUrl, frozenset[TypeUrl]] = {
    CLUSTER: frozenset({ENDPOINT, SECRET}),
    EXTENSION: frozenset({SECRET, CLUSTER}),
    LISTENER: frozenset({SECRET, CLUSTER, EXTENSION, SCOPED_ROUTE, ROUTE}),
    SCOPED_ROUTE: frozenset({ROUTE}),
    ROUTE: frozenset({CLUSTER, VIRTUAL_HOST}),
    VIRTUAL_HOST: frozenset({CLUSTER}),
}
"""What a resource of unknown content may need."""


class Holdings:
    """The subscriptions of one stream, in the order in which their types go out.

    Attributes:
        by_type: Each by its type.
        ordered: All of them, in that order.
    """

    def __init__(self) -> None:
        self.by_type: dict[TypeUrl, Subscription] = {}
        self.ordered: tuple[Subscription, ...] = ()

    def add(self, subscription: Subscription) -> None:
        """Take one more in."""
        self.by_type[subscription.type_url] = subscription
        subs = self.by_type.values()
        self.ordered = tuple(sorted(subs, key=lambda s: (rank(s.type_url), s.type_url)))

    def earlier_done(self, sub: Subscription) -> bool:
        """Return whether the client holds what is desired of all earlier types."""
        for each in self.ordered:
            if each is sub:
                return True
            if each.flight is not None or not each.done:
                return False
        return True

    def has(self, ref: Ref, goal: Snapshot) -> bool:
        """Return whether the client has what ``ref`` names, or did not ask for it."""
        type_url, name = ref
        sub = self.by_type.get(type_url)
        if sub is None or sub.has(name):
            return True
        listed = name in goal.named(type_url)
        return not (name in sub.wanted.names or (listed and sub.wanted.covers(name)))

    def in_use(
        self, type_url: TypeUrl, gone: set[str], goal: Snapshot
    ) -> tuple[set[str] | None, set[str]]:
        """Return the names in ``gone`` that the client may need; None: nobody can say.

        The second set is without those that only something needs which is about to go, or which
        is desired as it is: it keeps what is there on demand only.
        """
        names: set[str] = set()
        needed: set[str] = set()
        sought = {(type_url, name) for name in gone}
        for sub in self.ordered:
            if None in sub.doubt.values() and type_url in MAY_REFER.get(sub.type_url, ()):
                return None, set()
            sent = sub.flight.changed.values() if sub.flight else ()
            for resource in (*plain(sub.held).values(), *sent):
                if resource.refs.isdisjoint(sought):
                    continue
                refs = {name for _, name in resource.refs & sought}
                names |= refs
                stays = goal.find(sub.type_url, resource.name) == resource
                if not (stays or resource.name in sub.leaving):
                    needed |= refs
            for doubted in sub.doubt.values():
                refs = {name for _, name in (doubted or frozenset()) & sought}
                names |= refs
                needed |= refs
        return names, needed
