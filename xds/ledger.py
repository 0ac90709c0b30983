"""What one client wants, holds and was told, and what may therefore go out next.

Three rules make every change safe, whatever the client answers and whenever:

1. *Add before use.* A resource goes out only when the client has acknowledged everything that it
   needs in earlier types (`Snapshot.needs`), as far as the client asked for it. Until then the
   client keeps what it holds.
2. *Remove after use.* A resource that is no longer desired stays until nothing that the client
   holds, was sent, or may hold after a refusal refers to it.
3. *One at a time.* Per type at most one response is unacknowledged. Newer state waits and then
   goes straight to the newest, so that a slow client costs no queue.

What a client refuses is parked: that content is not sent again until it changes. If the refusal
names some of the resources, the others go out without them.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from xds.resource import FULL_STATE, WARMED_BY, Ref, Resource, TypeUrl, in_order
from xds.snapshot import Snapshot, version_of

WILDCARD = "*"
MAX_ERROR = 2000
"""Most characters kept of a client's reason for a refusal."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A standing refusal.

    Attributes:
        type_url: The type it is about.
        error: The client's reason, at most `MAX_ERROR` characters.
        version: Version of the refused response.
        names: Resources that are held back because of it, sorted.
    """

    type_url: TypeUrl
    error: str
    version: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """One response, before it takes the form of a protocol variant.

    Attributes:
        type_url: The type it is about.
        version: Content hash of ``target``.
        target: What the client will hold once it accepts.
        changed: The part of ``target`` that differs from what it holds, or that it asked for.
        removed: Names that it loses, sorted.
        settles: Version of the desired state that is reached by it; None while some resources
            are withheld or linger.
    """

    type_url: TypeUrl
    version: str
    target: Mapping[str, Resource]
    changed: Mapping[str, Resource]
    removed: tuple[str, ...]
    settles: str | None

    @property
    def content(self) -> tuple[frozenset[tuple[str, str]], tuple[str, ...]]:
        """What makes two responses the same to a client that refused one of them."""
        return frozenset((name, r.version) for name, r in self.changed.items()), self.removed


@dataclass(slots=True)
class Subscription:
    """One client and one type: what it wants, what it holds, what is on the way.

    Attributes:
        type_url: The type it is about.
        names: Names asked for explicitly.
        wildcard: Whether everything is wanted.
        legacy: Whether that is so because no name was ever given.
        held: What the client acknowledged and still wants.
        flight: The unacknowledged response.
        nonce: Nonce of the last response, unique within the stream.
        nack: The standing refusal.
        again: Names to send whether or not the client holds them.
        owed: Whether an answer is due even if it is empty.
        parked: Refused content: names and versions that are not sent.
        suspects: Those of them that were refused together, without saying which is the cause.
        doubt: Names that a refused response would have changed, and what they may now refer to.
        unsure: Names that a refused response would have removed.
        claims: Names and versions that the client says it holds, not yet compared.
        refused: Content of the response refused last.
        settled: Version of the desired state that the client is known to hold.
    """

    type_url: TypeUrl
    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    legacy: bool = False
    held: dict[str, Resource] = field(default_factory=dict)
    flight: Batch | None = None
    nonce: str = ""
    nack: Nack | None = None
    again: set[str] = field(default_factory=set)
    owed: bool = False
    parked: dict[str, str] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)
    doubt: dict[str, frozenset[Ref]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    claims: dict[str, str] = field(default_factory=dict)
    refused: object = None
    settled: str | None = None

    def wants(self, name: str) -> bool:
        """Return whether the client asked for ``name``."""
        return self.wildcard or name in self.names

    def has(self, name: str) -> bool:
        """Return whether the client surely holds ``name``, and keeps it."""
        going = self.flight is not None and name in self.flight.removed
        return name in self.held and name not in self.unsure and not going

    def forget_unwanted(self) -> None:
        """Drop all that is known about names that the client no longer wants."""
        self.settled = None
        if self.wildcard:
            return
        self.held = {name: r for name, r in self.held.items() if name in self.names}
        self.doubt = {name: refs for name, refs in self.doubt.items() if name in self.names}
        self.parked = {name: v for name, v in self.parked.items() if name in self.names}
        self.again &= self.names
        self.unsure &= self.names
        self.calm()

    def accepted(self, batch: Batch, *, whole: bool) -> None:
        """Take note of an ACK of ``batch``, which is everything of its type if ``whole``."""
        for name in batch.removed:
            self.held.pop(name, None)
        self.held.update(batch.changed)
        for name in (*batch.changed, *batch.removed):
            self.doubt.pop(name, None)
            self.unsure.discard(name)
            if (now := self.held.get(name)) and self.parked.get(name) == now.version:
                del self.parked[name]
        if whole:
            self.doubt.clear()
            self.unsure.clear()
        self.refused = None
        self.forget_unwanted()
        self.calm()
        if not (self.again or self.owed or self.doubt):
            self.settled = batch.settles

    def rejected(self, batch: Batch, error: str) -> None:
        """Take note of a NACK of ``batch``: the client may hold old, new or some of each."""
        blamed = {name for name in batch.changed if _mentions(error, name)}
        if not blamed:
            blamed = set(batch.changed)
            self.suspects |= blamed
        for name in blamed:
            self.parked[name] = batch.changed[name].version
        for name, resource in batch.changed.items():
            self.doubt[name] = self.doubt.get(name, frozenset()) | resource.refs
        self.unsure.update(batch.removed)
        self.refused, self.settled = batch.content, None
        self.nack = Nack(self.type_url, error[:MAX_ERROR], batch.version, tuple(sorted(blamed)))
        self.forget_unwanted()

    def compare_claims(self, goal: Mapping[str, Resource]) -> None:
        """Believe the client where it claims to hold what is desired; doubt the rest."""
        for name, version in self.claims.items():
            resource = goal.get(name)
            if resource is not None and resource.version == version:
                self.held[name] = resource
            else:
                self.doubt[name] = frozenset()
        self.claims.clear()

    def unpark(self, goal: Mapping[str, Resource]) -> None:
        """Release parked content that is no longer what is desired, and its fellow suspects."""
        gone = {
            n for n, version in self.parked.items() if n not in goal or goal[n].version != version
        }
        if gone & self.suspects:
            gone |= self.suspects
            self.suspects.clear()
        for name in gone:
            self.parked.pop(name, None)

    def calm(self) -> None:
        """End the refusal if nothing of it is left."""
        if not (self.parked or self.doubt or self.unsure):
            self.nack = None


class Ledger:
    """All subscriptions of one stream against one desired state.

    Args:
        delta: Whether the protocol variant can say that a resource is gone. State of the world
            can do so only for the types in `FULL_STATE`.
    """

    def __init__(self, *, delta: bool) -> None:
        self.subscriptions: dict[TypeUrl, Subscription] = {}
        self._delta = delta
        self._goal: Snapshot | None = None
        self._nonces = count(1)
        self._cold: set[Ref] = set()

    @property
    def nacks(self) -> dict[TypeUrl, Nack]:
        """Standing refusals by type."""
        return {t: s.nack for t, s in self.subscriptions.items() if s.nack is not None}

    @property
    def settled(self) -> bool:
        """Whether every subscription is known to hold exactly what is desired."""
        return self._goal is not None and all(
            s.flight is None and s.settled == self._goal.version(t)
            for t, s in self.subscriptions.items()
        )

    def subscribe(self, type_url: TypeUrl) -> Subscription:
        """Open the subscription of one type; the caller fills in what is wanted."""
        subscription = self.subscriptions[type_url] = Subscription(type_url)
        return subscription

    def adopt(self, goal: Snapshot) -> None:
        """Make ``goal`` the desired state."""
        self._goal = goal
        for type_url, subscription in self.subscriptions.items():
            if subscription.parked:
                subscription.unpark(goal.named(type_url))

    def answered(self, subscription: Subscription, error: str | None) -> None:
        """Take the client's answer to the response in flight: an ACK, or a NACK with a reason."""
        batch, subscription.flight = subscription.flight, None
        if batch is None:
            return
        if error is None:
            whole = not self._delta and batch.type_url in FULL_STATE
            subscription.accepted(batch, whole=whole)
        else:
            subscription.rejected(batch, error)
            if self._goal is not None:
                subscription.unpark(self._goal.named(batch.type_url))

    def due(self) -> list[tuple[str, Batch]]:
        """Return the responses that may go out now with their nonces, and count them as sent."""
        if self._goal is None:
            return []
        batches = []
        for type_url in in_order(self.subscriptions):
            subscription = self.subscriptions[type_url]
            if subscription.flight is None and (batch := self._next(subscription, self._goal)):
                self._sent(subscription, batch)
                batches.append((subscription.nonce, batch))
        return batches

    def _next(self, sub: Subscription, snapshot: Snapshot) -> Batch | None:
        version = snapshot.version(sub.type_url)
        if sub.settled == version and not (sub.again or sub.owed):
            return None
        goal = snapshot.named(sub.type_url)
        sub.again.update(name for name in sub.claims if (sub.type_url, name) in self._cold)
        sub.compare_claims(goal)
        target, withheld = self._target(sub, snapshot)
        lingers = self._linger(sub, goal)
        target.update(lingers)
        changed = {name: r for name, r in target.items() if _differs(sub, name, r, withheld)}
        removed = self._removed(sub, goal, target)
        settles = None if withheld or lingers else version
        if not (changed or removed):
            waiting = any(name not in target and name not in sub.parked for name in withheld)
            if not sub.owed or waiting:
                sub.again &= goal.keys()
                sub.settled = None if sub.again or sub.owed else settles
                sub.calm()
                return None
        exact = settles is not None and len(target) == len(goal)
        batch = Batch(
            sub.type_url,
            version if exact else version_of(target),
            target,
            changed,
            removed,
            settles,
        )
        if batch.content == sub.refused and not (sub.again or sub.owed):
            return None
        return batch

    def _target(
        self, sub: Subscription, snapshot: Snapshot
    ) -> tuple[dict[str, Resource], set[str]]:
        """Return what the client should hold of the goal, and which of it is not the newest."""
        goal = snapshot.named(sub.type_url)
        target: dict[str, Resource] = {}
        withheld: set[str] = set()
        for name in goal if sub.wildcard else sorted(sub.names & goal.keys()):
            resource, old = goal[name], sub.held.get(name)
            if sub.parked.get(name) != resource.version and (
                old == resource or all(map(self._has, snapshot.needs_of(resource)))
            ):
                target[name] = resource
                continue
            withheld.add(name)
            if old is not None:
                target[name] = old
        return target, withheld

    def _linger(self, sub: Subscription, goal: Mapping[str, Resource]) -> dict[str, Resource]:
        """Return what the client holds, should lose, and cannot lose yet."""
        gone = sub.held.keys() - goal.keys()
        if gone and self._can_remove(sub.type_url):
            gone &= self._in_use(sub.type_url)
        return {name: sub.held[name] for name in sorted(gone)}

    def _removed(
        self, sub: Subscription, goal: Mapping[str, Resource], target: Mapping[str, Resource]
    ) -> tuple[str, ...]:
        if not self._can_remove(sub.type_url):
            return ()
        known = {*sub.held, *sub.doubt, *(sub.again if self._delta else ())}
        return tuple(sorted(known - goal.keys() - target.keys()))

    def _can_remove(self, type_url: TypeUrl) -> bool:
        return self._delta or type_url in FULL_STATE

    def _has(self, ref: Ref) -> bool:
        type_url, name = ref
        sub = self.subscriptions.get(type_url)
        return sub is None or not sub.wants(name) or sub.has(name)

    def _in_use(self, type_url: TypeUrl) -> set[str]:
        """Return the names of ``type_url`` that the client may need for what it may hold."""
        names: set[str] = set()
        for sub in self.subscriptions.values():
            sent = sub.flight.changed.values() if sub.flight else ()
            refs = [r.refs for r in (*sub.held.values(), *sent)]
            for group in (*refs, *sub.doubt.values()):
                names.update(name for kind, name in group if kind == type_url)
        return names

    def _sent(self, sub: Subscription, batch: Batch) -> None:
        sub.nonce, sub.flight = str(next(self._nonces)), batch
        sub.again -= batch.changed.keys() | set(batch.removed)
        sub.owed, sub.settled = False, None
        self._cold.difference_update((sub.type_url, name) for name in batch.changed)
        if (warmed_by := WARMED_BY.get(sub.type_url)) is None:
            return
        warmer = self.subscriptions.get(warmed_by)
        # What a refused response left unclear may change back, for this one states it again.
        unclear = [r for name, r in batch.target.items() if name in sub.doubt]
        for resource in (*batch.changed.values(), *unclear):
            for type_url, name in resource.refs:
                if type_url != warmed_by:
                    continue
                if warmer is not None and warmer.wants(name):
                    warmer.again.add(name)
                else:
                    self._cold.add((type_url, name))


def _differs(sub: Subscription, name: str, resource: Resource, withheld: set[str]) -> bool:
    return (
        sub.held.get(name) != resource
        or name in sub.again
        or name in sub.unsure
        or (name in sub.doubt and name not in withheld)
    )


def _mentions(error: str, name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", error) is not None
