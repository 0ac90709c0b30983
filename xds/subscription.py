"""One client and one type: what it wants, what it holds, what is on the way, what it refuses."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xds.hosts import called
from xds.resource import VIRTUAL_HOST, Ref, Resource, TypeUrl
from xds.snapshot import NONE, Named, Snapshot

WILDCARD = "*"
MAX_ERROR = 2000
"""Most characters kept of a client's reason for a refusal."""

Refs = frozenset[Ref] | None
"""What a resource refers to; None when nobody knows."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A standing refusal.

    Attributes:
        type_url: The type it is about.
        error: The client's reason, at most `MAX_ERROR` characters.
        version: Version of the refused response.
        names: Resources that are held back because of it, sorted.
        sought: Whether the client named no culprit and parts are still being tried.
    """

    type_url: TypeUrl
    error: str
    version: str
    names: tuple[str, ...]
    sought: bool = False


class Fault(NamedTuple):
    """Why one resource is held back.

    Attributes:
        version: The refused content.
        error: The client's reason.
    """

    version: str
    error: str


class Batch(NamedTuple):
    """One response, before it is written.

    Attributes:
        type_url: The type it is about.
        version: Content hash of ``target``, or of the whole type where the target is all of it
            that the client wants.
        target: What the client will hold of this type once it accepts.
        changed: The part of ``target`` that differs from what it holds, or that it asked for.
        removed: Names that it loses, or that it asked for in vain, sorted.
        missing: Those of them that it asked for in vain.
        beats: Names whose life is renewed without sending them again.
        wanted: What the client asked for at the time.
        settles: Version of the desired state that is reached by it; None while some resources
            are withheld or linger.
        reaches: The same, where only what is about to be removed lingers.
        goal: The desired state at the time.
    """

    type_url: TypeUrl
    version: str
    target: Named
    changed: Named
    removed: tuple[str, ...]
    missing: tuple[str, ...]
    beats: tuple[str, ...]
    wanted: "Wanted"
    settles: str | None
    reaches: str | None
    goal: Snapshot

    @property
    def content(self) -> tuple[frozenset[tuple[str, str]], tuple[str, ...]]:
        """What makes two responses the same to a client that refused one of them."""
        return frozenset((name, r.version) for name, r in self.changed.items()), self.removed


class Wanted(NamedTuple):
    """What a client asked for of one type.

    Attributes:
        wildcard: Whether everything that is listed is wanted.
        names: Names asked for explicitly.
        prefixes: Beginnings of names: every resource of a collection is wanted.
    """

    wildcard: bool = False
    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def covers(self, name: str) -> bool:
        """Return whether ``name`` was asked for, if it is listed."""
        return (
            self.wildcard
            or name in self.names
            or (bool(self.prefixes) and name.startswith(self.prefixes))
        )

    def of(self, snapshot: Snapshot, type_url: TypeUrl) -> Named:
        """Return what ``snapshot`` holds of it; costs the same for any number of names."""
        if self.wildcard and not self.names:
            return snapshot.named(type_url)
        if type_url == VIRTUAL_HOST:
            return self._hosts(snapshot)
        return _View(self, snapshot, type_url)

    def _hosts(self, snapshot: Snapshot) -> Named:
        listed = snapshot.named(VIRTUAL_HOST).items()
        found = {name: host for name, host in listed if self.covers(name)}
        for name in sorted(self.names):
            if (host := called(snapshot, VIRTUAL_HOST, name)) is not None:
                found[host.name] = host
        return found


class _View(Mapping[str, Resource]):
    """What a snapshot holds of the wanted names."""

    __slots__ = ("_snapshot", "_type_url", "_wanted")

    def __init__(self, wanted: Wanted, snapshot: Snapshot, type_url: TypeUrl) -> None:
        self._wanted, self._snapshot, self._type_url = wanted, snapshot, type_url

    def __getitem__(self, name: str) -> Resource:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name: str, default: object = None) -> Resource | None:  # type: ignore[override]
        """Return a resource that is wanted and there."""
        del default
        if name in self._wanted.names:
            return self._snapshot.find(self._type_url, name)
        covered = self._wanted.covers(name)
        return self._snapshot.named(self._type_url).get(name) if covered else None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        listed = self._snapshot.named(self._type_url)
        if self._wanted.wildcard:
            yield from listed
        elif self._wanted.prefixes:
            yield from filter(self._wanted.covers, listed)
        else:
            yield from (n for n in sorted(self._wanted.names) if n in listed)
        for name in sorted(self._wanted.names):
            if name not in listed and self._snapshot.find(self._type_url, name) is not None:
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def found(self) -> dict[str, Resource]:
        """Return the same as a dictionary, which costs memory and finds faster."""
        if self._wanted.wildcard or self._wanted.prefixes or self._snapshot.on_demand is not None:
            return dict(self)
        listed = self._snapshot.named(self._type_url)
        return {name: listed[name] for name in self._wanted.names if name in listed}


def plain(named: Named) -> Named:
    """Return what finds a name fast, for as long as a client is on its way."""
    return named.found() if isinstance(named, _View) else named


@dataclass(slots=True)
class Subscription:
    """The state of one type on one stream.

    Attributes:
        type_url: The type it is about.
        wanted: What the client asked for.
        legacy: Whether it wants everything because no name was ever given.
        held: What the client acknowledged and still wants. Never changed in place: it may be
            part of a snapshot.
        flight: The unacknowledged response.
        nonce: Nonce of the last response.
        nack: Version and reason of the last refusal that stands.
        again: Names to send whether or not the client holds them.
        owed: Whether an answer is due even if it is empty.
        parked: Refused content, by name.
        trials: Groups of parked names that are still to be tried by themselves.
        doubt: Names of which the client may hold another content than ``held`` says, and what
            that refers to.
        unsure: Names that a refused response would have removed.
        lost: Names that the unanswered response leaves it with and that it did not always want.
        claims: Names and versions that the client says it holds, not yet compared.
        refused: Content of the response refused last, if there is nothing in it to park.
        version: Version of the desired state of this type; empty before there is one.
        settled: Version of the desired state that the client is known to hold.
        reached: The same, but what is about to be removed may still be there.
        accepted_version: Version of the newest response that it accepted; empty before it.
        base: A state of which the client holds exactly what it wants, and nothing else is known
            of it (it is `plain`); None when there is none.
        leaving: Unused names, and when they may be removed: seconds.
        beats: Names that live for a time, and when that is to be renewed: seconds.
        stale: Whether there may be something to send.
        withheld: Whether something waits for another type.
        lingers: Whether something stays only because it may be in use.
    """

    type_url: TypeUrl
    wanted: Wanted = field(default_factory=Wanted)
    legacy: bool = False
    held: Named = field(default_factory=lambda: NONE)
    flight: Batch | None = None
    nonce: str = ""
    serial: int = 0
    nack: Fault | None = None
    again: set[str] = field(default_factory=set)
    owed: bool = False
    parked: dict[str, Fault] = field(default_factory=dict)
    trials: list[frozenset[str]] = field(default_factory=list)
    doubt: dict[str, Refs] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    claims: dict[str, str] = field(default_factory=dict)
    refused: object = None
    version: str = ""
    settled: str | None = None
    reached: str | None = None
    accepted_version: str = ""
    base: Snapshot | None = None
    leaving: dict[str, float] = field(default_factory=dict)
    beats: dict[str, float] = field(default_factory=dict)
    stale: bool = True
    withheld: bool = False
    lingers: bool = False

    @property
    def wildcard(self) -> bool:
        """Whether everything is wanted."""
        return self.wanted.wildcard

    @property
    def names(self) -> frozenset[str]:
        """Names asked for explicitly."""
        return self.wanted.names

    @property
    def standing(self) -> Nack | None:
        """The refusal that stands, with what is held back because of it."""
        if self.nack is None:
            return None
        names = tuple(sorted(self.parked))
        return Nack(self.type_url, self.nack.error, self.nack.version, names, bool(self.trials))

    @property
    def done(self) -> bool:
        """Whether the client is known to hold what is desired."""
        return self.settled is not None and self.settled == self.version

    @property
    def plain(self) -> bool:
        """Whether nothing is known of the client but what it holds."""
        return not (
            self.parked
            or self.doubt
            or self.unsure
            or self.claims
            or self.leaving
            or self.trials
            or self.refused
            or self.nack
        )

    def over(self, now: float) -> bool:
        """Return whether the time of something has come: to go, or to be renewed."""
        if not (self.leaving or self.beats):
            return False
        return min((*self.leaving.values(), *self.beats.values())) <= now

    def has(self, name: str) -> bool:
        """Return whether the client surely holds ``name``, and keeps it."""
        if name in self.unsure or name not in self.held:
            return False
        return self.flight is None or name not in self.flight.removed

    def want(self, wanted: Wanted) -> None:
        """Adopt what the client wants from now on."""
        self.wanted, self.stale = wanted, True
        if self.flight is not None:
            now = wanted.of(self.flight.goal, self.type_url)
            target = self.flight.target
            self.lost.update(n for n in target if not (wanted.covers(n) or n in now))
        self.settled = self.reached = self.base = None
        self.forget_unwanted()

    def forget_unwanted(self) -> None:
        """Drop all that is known about names that the client no longer wants."""
        wanted = self.wanted
        if wanted.wildcard:
            return

        def kept(name: str) -> bool:
            if wanted.covers(name):
                return True
            aliases = self.held[name].aliases if name in self.held else ()
            return any(alias in wanted.names for alias in aliases)

        self.held = {name: r for name, r in self.held.items() if kept(name)}
        self.doubt = {name: refs for name, refs in self.doubt.items() if kept(name)}
        self.parked = {name: fault for name, fault in self.parked.items() if kept(name)}
        self.leaving = {name: at for name, at in self.leaving.items() if kept(name)}
        self.again = {name for name in self.again if kept(name)}
        self.unsure = {name for name in self.unsure if kept(name)}
        self.calm()

    def accepted(self, batch: Batch, *, whole: bool) -> None:
        """Take note of an ACK of ``batch``, which is everything of its type if ``whole``."""
        self.accepted_version = batch.version
        if batch.wanted is self.wanted and not self.lost:
            self.held = batch.target
        else:  # what it dropped meanwhile it has no more, even if it wants it again
            self.held = {
                name: r
                for name, r in batch.target.items()
                if name in self.held or (name in batch.changed and name not in self.lost)
            }
            self.forget_unwanted()
        if self.base is None:
            self._clear(batch, whole=whole)
        known = batch.wanted is self.wanted and not (self.doubt or self.lost)
        if self.lost:
            for name in self.lost & batch.target.keys():
                self._may_hold(batch.target[name])
            self.lost = set()
            self.forget_unwanted()
        clear = known and not (self.again or self.owed)
        self.reached = batch.reaches if clear else None
        self.settled = batch.settles if clear else None
        self.base = batch.goal if known and batch.settles is not None and self.plain else None

    def _clear(self, batch: Batch, *, whole: bool) -> None:
        """Forget the doubts that an accepted response ends."""
        for name in (*batch.changed, *batch.removed):
            self.doubt.pop(name, None)
            self.unsure.discard(name)
            fault, now = self.parked.get(name), self.held.get(name)
            if fault is not None and now is not None and fault.version == now.version:
                del self.parked[name]
        if whole:
            self.doubt.clear()
            self.unsure.clear()
        self.refused = None
        for name in batch.removed:
            self.leaving.pop(name, None)
        self.calm()

    def _may_hold(self, resource: Resource) -> None:
        before = self.doubt.get(resource.name, frozenset())
        self.doubt[resource.name] = None if before is None else before | resource.refs

    def rejected(self, batch: Batch, error: str) -> None:
        """Take note of a NACK of ``batch``: the client may hold old, new or some of each.

        Whom the reason names is parked, and so is the only one that changed. When it names
        nobody, all are parked, and then tried in halves until the culprits stand alone.
        """
        error = error[:MAX_ERROR]
        # What it accepted before is repeated where a refusal or a new stream left doubt.
        self.lost = set()
        untried = batch.changed.keys() - self.parked.keys()
        suspects = {n for n in untried if self.held.get(n) != batch.changed[n]}
        if not suspects:  # then it does not hold what it seemed to
            self.held = {name: r for name, r in self.held.items() if name not in untried}
        named = {name for name in suspects if _mentions(error, name)}
        blamed = named or suspects
        self.trials = [rest for group in self.trials if (rest := group - blamed)]
        if not named and len(blamed) > 1:
            order = sorted(blamed)
            half = len(order) // 2
            self.trials[:0] = [frozenset(order[:half]), frozenset(order[half:])]
        for name in blamed:
            self.parked[name] = Fault(batch.changed[name].version, error)
        for resource in batch.changed.values():
            self._may_hold(resource)
        self.unsure.update(set(batch.removed).difference(batch.missing))
        if suspects:
            self.again.update(batch.missing)
        self.refused = None if untried else batch.content
        self.settled = self.reached = self.base = None
        self.nack = Fault(batch.version, error)
        self.forget_unwanted()

    def unpark(self, goal: Snapshot) -> None:
        """Release parked content that is no longer what is desired."""
        desired = self.wanted.of(goal, self.type_url)
        for name, fault in list(self.parked.items()):
            now = desired.get(name)
            if now is None or now.version != fault.version:
                del self.parked[name]

    def next_trial(self) -> None:
        """Release the next group of suspects to be tried, if any are left."""
        while self.trials:
            group = [name for name in self.trials.pop(0) if name in self.parked]
            for name in group:
                del self.parked[name]
            if group:
                return

    def calm(self, desired: Named | None = None) -> None:
        """End the refusal if nothing of it is left: of what is ``desired``, None: at all."""
        unclear = desired is None or any(name in desired for name in self.doubt)
        if not (self.parked or self.unsure or (self.doubt and unclear)):
            self.nack = None
            self.trials.clear()


def _mentions(error: str, name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", error) is not None
