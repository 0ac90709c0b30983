"""What each proxy was sent, holds and refuses, as values for pages, commands and tests."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from wherry.model.resource import Resource as Written
from wherry.model.world import FIELD, World
from xds.resource import Resource, TypeUrl, in_order
from xds.services import SERVICES
from xds.snapshot import NONE, Snapshot
from xds.status import StreamStatus, TypeStatus
from xds.subscription import WILDCARD, Fault, Subscription

SHORT: Mapping[TypeUrl, str] = {s.type_url: s.short for s in SERVICES if s.type_url is not None}
"""What people call each type: ``cds`` and so on."""

BY_SHORT: Mapping[str, TypeUrl] = {short: type_url for type_url, short in SHORT.items()}

_FIELDS = {cls.__name__: field for cls, field in FIELD.items()}
_QUOTED = re.compile(r"'([^']{2,})'|\"([^\"]{2,})\"")


def short(type_url: TypeUrl) -> str:
    """Return what people call a type; of one that we do not know, the end of its name."""
    return SHORT.get(type_url) or type_url.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Source:
    """A resource of the World that a refused one was made from.

    Attributes:
        kind: As it is written.
        name: As it is written.
        where: ``file:line``; None when no file says it.
        likely: Whether it holds what the client complains about, as far as can be told.
    """

    kind: str
    name: str
    where: str | None
    likely: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that a client refuses.

    Attributes:
        node: Who.
        type: Short name of its type.
        resource: Its name; empty when the client refuses no resource in particular.
        version: What it refuses.
        reason: In the client's words.
        at_unix_ns: When it last refused something of the type; None when that is not known.
        sources: What it was made from, the likely ones first.
    """

    node: str
    type: str
    resource: str
    version: str
    reason: str
    at_unix_ns: int | None
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One type on one stream.

    Attributes:
        type: Short name.
        state: ``ack``, ``nack``, ``pending`` while an answer is out, ``none`` before the first.
        version: Version that it accepted last; empty before that.
        asked: How many it asked for by name; None when it asked for all.
        held: How many it acknowledged.
        refused: How many it refuses.
    """

    type: str
    state: str
    version: str
    asked: int | None
    held: int
    refused: int


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream of a proxy.

    Attributes:
        service: ``ads``, or the type's own.
        variant: ``sotw``, ``delta`` or ``rest``.
        since_unix_ns: When it began.
        settled: Whether it holds exactly what is desired.
        scope_size: Resources that its scope has; None before the first snapshot.
        sent: Responses.
        sent_bytes: Their size.
        types: In the order in which they go out.
    """

    service: str
    variant: str
    since_unix_ns: int
    settled: bool
    scope_size: int | None
    sent: int
    sent_bytes: int
    types: tuple[TypeRow, ...]


@dataclass(frozen=True, slots=True)
class Proxy:
    """One client and all of its streams.

    Attributes:
        node: Its id.
        cluster: The group that it says it belongs to.
        role: What it is for: ``sidecar``, ``gateway`` and so on; empty when it does not say.
        client: Its program.
        client_version: Version of that.
        locality: Region, zone and sub-zone.
        streams: Sorted by service.
    """

    node: str
    cluster: str
    role: str
    client: str
    client_version: str
    locality: tuple[str, str, str]
    streams: tuple[StreamRow, ...]


def proxies(statuses: Iterable[StreamStatus]) -> tuple[Proxy, ...]:
    """Put the streams of each node together, sorted by node id."""
    by_node: defaultdict[str, list[StreamStatus]] = defaultdict(list)
    for status in statuses:
        by_node[status.node.id].append(status)
    return tuple(_proxy(by_node[node]) for node in sorted(by_node))


def _proxy(statuses: list[StreamStatus]) -> Proxy:
    node = statuses[0].node
    role = node.metadata.get("role")
    rows = sorted(map(_stream, statuses), key=lambda row: (row.service, row.since_unix_ns))
    return Proxy(
        node.id,
        node.cluster,
        role if isinstance(role, str) else "",
        node.user_agent_name,
        node.user_agent_version,
        node.locality,
        tuple(rows),
    )


def _stream(status: StreamStatus) -> StreamRow:
    return StreamRow(
        status.service,
        status.variant,
        status.since_unix_ns,
        status.settled,
        status.scope_size,
        status.sent,
        status.sent_bytes,
        tuple(map(_type, status.types)),
    )


def _type(status: TypeStatus) -> TypeRow:
    state = "ack" if status.version else "none"
    if status.error is not None:
        state = "nack"
    elif status.awaiting:
        state = "pending"
    return TypeRow(
        short(status.type_url),
        state,
        status.version,
        None if status.wildcard else status.names,
        len(status.held),
        len(status.faults),
    )


def refusals(status: StreamStatus, snapshot: Snapshot | None, world: World) -> Iterator[Refusal]:
    """Yield what the client of a stream refuses, given what its scope should have."""
    for each in status.types:
        if each.error is None:
            continue
        at = each.nacked_at_unix_ns
        kind = short(each.type_url)
        if not each.faults:
            yield Refusal(status.node.id, kind, "", "", each.error, at, ())
        for name, version, reason in each.faults:
            found = None if snapshot is None else snapshot.find(each.type_url, name)
            sources = () if found is None else sources_of(found, world, reason)
            yield Refusal(status.node.id, kind, name, version, reason, at, sources)


def sources_of(resource: Resource, world: World, reason: str = "") -> tuple[Source, ...]:
    """Return what ``resource`` was made from, the likely cause of ``reason`` first.

    A source is likely when it is the only one, or when it holds a text that the reason quotes or
    ends with, such as a regular expression; when none does, all are.
    """
    found = sorted(resource.sources)
    texts = _complaints(reason)
    holders = {each for each in found if texts and _holds(world, each, texts)} or set(found)
    rows = [
        Source(kind, name, written(world, kind, name), (kind, name) in holders)
        for kind, name in found
    ]
    return tuple(sorted(rows, key=lambda row: not row.likely))


def written(world: World, kind: str, name: str) -> str | None:
    """Return ``file:line`` of a resource; None when the World has none of that name."""
    origin = world.origins.get((kind, name))
    return None if origin is None else str(origin)


def _complaints(reason: str) -> frozenset[str]:
    quoted = {one or other for one, other in _QUOTED.findall(reason)}
    last = reason.rstrip().rpartition(": ")[2]
    return frozenset(text for text in (*quoted, last) if len(text) > 1)


def _holds(world: World, source: tuple[str, str], texts: frozenset[str]) -> bool:
    kind, name = source
    field = _FIELDS.get(kind)
    written = getattr(world, field).get(name) if field is not None else None
    if not isinstance(written, Written):
        return False
    return any(text in each for each in _texts(written.model_dump()) for text in texts)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


@dataclass(frozen=True, slots=True)
class Standing:
    """One resource between us and one client.

    Attributes:
        type_url: Its type.
        name: Its name.
        held: What the client acknowledged.
        sent: What is out to it and unanswered.
        wanted: What it should have.
        fault: Why it refuses what it should have; None unless it does.
    """

    type_url: TypeUrl
    name: str
    held: Resource | None
    sent: Resource | None
    wanted: Resource | None
    fault: Fault | None

    @property
    def state(self) -> str:
        """How it stands, in a word.

        ``held``: it has what it should. ``refused``: it does not take it. ``sent``: it has yet
        to answer. ``missing`` and ``older``: it was not sent what it should have, and has nothing
        or another version. ``lingering``: it holds what it should no longer have. ``unknown``:
        it asked for what there is not.
        """
        if self.wanted is None:
            return "unknown" if self.held is None else "lingering"
        if self.fault is not None and self.fault.version == self.wanted.version:
            return "refused"
        if self.held is not None and self.held.version == self.wanted.version:
            return "held"
        if self.sent is not None and self.sent.version == self.wanted.version:
            return "sent"
        return "missing" if self.held is None else "older"


def standings(
    subscriptions: Mapping[TypeUrl, Subscription],
    snapshot: Snapshot | None,
    only: TypeUrl | None = None,
) -> Iterator[Standing]:
    """Yield every resource that a client wants, was sent or holds; types in their order.

    Args:
        subscriptions: Of one stream.
        snapshot: What its scope should have.
        only: Leave out other types.
    """
    for type_url in in_order(subscriptions):
        if only is not None and type_url != only:
            continue
        sub = subscriptions[type_url]
        wanted = NONE if snapshot is None else sub.wanted.of(snapshot, type_url)
        sent = NONE if sub.flight is None else sub.flight.changed
        for name in sorted({*wanted, *sub.held, *sub.parked, *sub.names} - {WILDCARD}):
            yield Standing(
                type_url,
                name,
                sub.held.get(name),
                sent.get(name),
                wanted.get(name),
                sub.parked.get(name),
            )
