"""Which node gets which snapshot: one per scope, shared by all of its streams."""

import asyncio
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from xds.node import Node
from xds.snapshot import Snapshot

S = TypeVar("S", bound=Hashable)


class Link(Generic[S]):
    """One stream's place in the hub.

    Attributes:
        node: Who is at the other end.
        scope: What it gets.
        changed: Set when there is a snapshot that the stream has not seen. Holds no queue: a slow
            stream skips to the newest.
    """

    def __init__(self, hub: "Hub[S]", node: Node, scope: S) -> None:
        self._hub = hub
        self.node, self.scope = node, scope
        self.changed = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot of the scope, or None before the first."""
        return self._hub.current(self.scope)


class Hub(Generic[S]):
    """Snapshots by scope. For one event loop; every method returns at once.

    Args:
        scope_of: Says what a node gets; may raise a `WherryError`, which refuses its stream.
        on_scope: Called when a node joins a scope that has no snapshot; publishes one, now or
            later. A scope is forgotten when its last stream ends. None: scopes are published
            beforehand and kept.
    """

    def __init__(
        self,
        scope_of: Callable[[Node], S],
        on_scope: Callable[[S, Node], None] | None = None,
    ) -> None:
        self._scope_of, self._on_scope = scope_of, on_scope
        self._snapshots: dict[S, Snapshot] = {}
        self._links: dict[S, set[Link[S]]] = {}

    @property
    def scopes(self) -> frozenset[S]:
        """Scopes that have a stream at present."""
        return frozenset(self._links)

    def current(self, scope: S) -> Snapshot | None:
        """Return the newest snapshot of ``scope``."""
        return self._snapshots.get(scope)

    def publish(self, scope: S, snapshot: Snapshot) -> bool:
        """Make ``snapshot`` what ``scope`` gets; return whether that changes anything."""
        if self._snapshots.get(scope) == snapshot:
            return False
        self._snapshots[scope] = snapshot
        for link in self._links.get(scope, ()):
            link.changed.set()
        return True

    @contextmanager
    def joined(self, node: Node) -> Iterator[Link[S]]:
        """Take part in the scope of ``node`` until the block ends.

        Raises:
            WherryError: Whatever ``scope_of`` or ``on_scope`` raises for this node.
        """
        scope = self._scope_of(node)
        link = Link(self, node, scope)
        self._links.setdefault(scope, set()).add(link)
        try:
            if scope not in self._snapshots and self._on_scope is not None:
                self._on_scope(scope, node)
            if scope in self._snapshots:
                link.changed.set()
            yield link
        finally:
            self._links[scope].discard(link)
            if not self._links[scope]:
                del self._links[scope]
                if self._on_scope is not None:
                    self._snapshots.pop(scope, None)
