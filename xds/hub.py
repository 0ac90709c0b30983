"""Which node gets which snapshot: one per scope, shared by all of its streams."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from xds.node import Node
from xds.press import Press
from xds.resource import Resource, TypeUrl
from xds.snapshot import Named, Snapshot

S = TypeVar("S", bound=Hashable)

REMEMBERED_SNAPSHOTS = 16
"""How many snapshots of a scope are remembered after they were replaced."""
REMEMBERED_SCOPES = 10_000
"""How many scopes are remembered at all."""
REMEMBERED_SECONDS = 300.0
"""How long a scope is remembered that has no stream."""


class Link(Generic[S]):
    """One stream's place in the hub.

    Attributes:
        node: Who is at the other end.
        scope: What it gets.
        changed: Whether there is a snapshot that the stream has not seen. There is no queue: a
            slow stream skips to the newest.
        news: Set when ``changed`` is; the stream may set it for reasons of its own.
        memory: What the scope was served lately.
    """

    def __init__(self, hub: "Hub[S]", node: Node, scope: S) -> None:
        self._hub = hub
        self.node, self.scope = node, scope
        self.changed = False
        self.news = asyncio.Event()
        self.memory = Past(hub, scope)

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot of the scope, or None before the first."""
        return self._hub.current(self.scope)

    @property
    def press(self) -> Press:
        """Where responses are made that streams share."""
        return self._hub.press


class Past(Generic[S]):
    """What a scope was served lately, for clients that come back; see `xds.memory.Memory`."""

    def __init__(self, hub: "Hub[S]", scope: S) -> None:
        self._hub, self._scope = hub, scope

    def one(self, type_url: TypeUrl, name: str, version: str) -> Resource | None:
        """Return a resource by name and content; None when it is forgotten."""
        for snapshot in self._hub.past(self._scope):
            found = snapshot.find(type_url, name)
            if found is not None and found.version == version:
                return found
        return None

    def whole(self, type_url: TypeUrl, version: str) -> Named | None:
        """Return everything of a type that had this version; None when it is forgotten."""
        for snapshot in self._hub.past(self._scope):
            if snapshot.version(type_url) == version and snapshot.on_demand is None:
                return snapshot.named(type_url)
        return None


class Hub(Generic[S]):
    """Snapshots by scope. For one event loop; every method returns at once.

    Args:
        scope_of: Says what a node gets; may raise a `WherryError`, which refuses its stream.
        on_scope: Called when a node joins a scope that has no snapshot; publishes one, now or
            later. A scope is forgotten when its last stream ends. None: scopes are published
            beforehand and kept.
        now: Where the age of what is remembered is read: seconds.

    Attributes:
        press: Where responses are made that streams share.
    """

    def __init__(
        self,
        scope_of: Callable[[Node], S],
        on_scope: Callable[[S, Node], None] | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scope_of, self._on_scope = scope_of, on_scope
        self._snapshots: dict[S, Snapshot] = {}
        self._links: dict[S, set[Link[S]]] = {}
        self._past: OrderedDict[S, deque[Snapshot]] = OrderedDict()
        self._left: dict[S, float] = {}
        self._now = now
        self.press = Press()

    @property
    def scopes(self) -> frozenset[S]:
        """Scopes that have a stream at present."""
        return frozenset(self._links)

    def current(self, scope: S) -> Snapshot | None:
        """Return the newest snapshot of ``scope``."""
        return self._snapshots.get(scope)

    def past(self, scope: S) -> Iterator[Snapshot]:
        """Yield the snapshots of ``scope``, newest first, as far as they are remembered."""
        if (current := self._snapshots.get(scope)) is not None:
            yield current
        yield from reversed(self._past.get(scope, ()))

    def publish(self, scope: S, snapshot: Snapshot) -> bool:
        """Make ``snapshot`` what ``scope`` gets; return whether that changes anything."""
        before = self._snapshots.get(scope)
        if before == snapshot:
            return False
        if before is not None:
            self._remember(scope, before)
        self._snapshots[scope] = snapshot
        for link in self._links.get(scope, ()):
            link.changed = True
            link.news.set()
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
                link.changed = True
                link.news.set()
            yield link
        finally:
            self._links[scope].discard(link)
            if not self._links[scope]:
                del self._links[scope]
                if self._on_scope is not None and scope in self._snapshots:
                    self._remember(scope, self._snapshots.pop(scope))

    def _remember(self, scope: S, snapshot: Snapshot) -> None:
        past = self._past.setdefault(scope, deque(maxlen=REMEMBERED_SNAPSHOTS))
        if not past or past[-1] != snapshot:  # a client that comes and goes is no change
            past.append(snapshot)
        self._past.move_to_end(scope)
        self._left[scope] = now = self._now()
        while len(self._past) > REMEMBERED_SCOPES or self._is_over(now):
            forgotten, _ = self._past.popitem(last=False)
            self._left.pop(forgotten, None)

    def _is_over(self, now: float) -> bool:
        """Return whether the scope that was noted longest ago is to be forgotten."""
        oldest = next(iter(self._past), None)
        if oldest is None or oldest in self._links:
            return False
        return now - self._left[oldest] > REMEMBERED_SECONDS
