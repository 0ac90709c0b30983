"""Responses as bytes, made once and shared by every stream that is owed the same.

A response is determined by what it says: type, version, resources and removals. Streams that are
owed the same get the same bytes, nonce included, so a thousand clients of one scope cost one
encoding. Nonces therefore come from one counter: on each stream they only ever grow.

Source: https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/discovery/v3/discovery.proto
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import count

from xds.encode import delimited, varint
from xds.resource import FULL_STATE, VIRTUAL_HOST, Resource, TypeUrl
from xds.snapshot import Changes, Named, Snapshot
from xds.subscription import Batch, Wanted

MOST_KEPT = 128
"""Responses that are kept for the next stream."""
MOST_BYTES = 32 << 20
"""Bytes that the kept responses have together."""

MOST_LEAF = 4 << 10
"""Longest resource that is kept in its envelope, in bytes; larger ones are few and change."""

_FEW = 8
_MORE = 0x80
"""The bit of a varint's byte that says that another follows."""
_WRAPPED = TypeUrl("type.googleapis.com/envoy.service.discovery.v3.Resource")


class Form(Enum):
    """How a response is written.

    `SOTW_TTL` is the state of the world for a client with the feature
    ``xds.config.resource-in-sotw``: what has a time to live stands in an envelope that says it.
    """

    SOTW = 1
    SOTW_TTL = 2
    DELTA = 3

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What to send next.

    Attributes:
        type_url: The type it is about.
        version: Content hash of what the client will hold of this type.
        serial: Number of the nonce.
        resources: State of the world: of a type in `FULL_STATE` all that the client should hold,
            of another those that changed. Incremental: those that changed or were asked for.
        removed: Incremental: names that are gone, or never were.
        raw: All of it as it goes over the wire.
    """

    type_url: TypeUrl
    version: str
    serial: int
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    raw: bytes = field(repr=False)

    @property
    def nonce(self) -> str:
        """Unique within every stream that gets it."""
        return str(self.serial)


@dataclass(slots=True, eq=False)
class Step:
    """The way from one snapshot to the next, for all who want the same of it.

    Attributes:
        base: Where it begins.
        goal: Where it ends.
        wanted: For whom.
        put: What it takes; None when it is not simple.
        batch: The same as a response, once it was needed.
        response: And as bytes.
    """

    base: Snapshot | None = None
    goal: Snapshot | None = None
    wanted: Wanted | None = None
    put: Named | None = None
    batch: Batch | None = None
    response: Response | None = None

    def take(self, base: Snapshot, goal: Snapshot, wanted: Wanted, put: Named | None) -> None:
        """Become another step."""
        self.base, self.goal, self.wanted, self.put = base, goal, wanted, put
        self.batch = self.response = None


class Press:
    """Makes responses, and keeps the latest for the streams that come next."""

    def __init__(self) -> None:
        self._serials = count(1)
        self._kept: OrderedDict[object, Response] = OrderedDict()
        self._bytes = 0
        self._changes: tuple[Snapshot, Snapshot, Changes] | None = None
        self._steps: dict[tuple[Form, TypeUrl], Step] = {}

    def step(self, form: Form, type_url: TypeUrl) -> "Step":
        """Return the step that a stream took last for this type, to share or to replace."""
        key = (form, type_url)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = Step()
        return step

    def changes(self, older: Snapshot, newer: Snapshot) -> Changes:
        """Return what sets two snapshots apart; asked again for the same, it is known."""
        known = self._changes
        if known is not None and known[0] is older and known[1] is newer:
            return known[2]
        changes = newer.since(older)
        self._changes = older, newer, changes
        return changes

    def response(self, form: Form, batch: Batch, after: int) -> Response:
        """Return ``batch`` as a response whose serial is greater than ``after``."""
        key = (form, batch.type_url, batch.version, batch.removed, *_content(form, batch))
        kept = self._kept.get(key)
        if kept is not None and kept.serial > after:
            return kept
        made = _printed(form, batch, next(self._serials))
        self._keep(key, made)
        return made

    def _keep(self, key: object, made: Response) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= len(old.raw)
        self._kept[key] = made
        self._bytes += len(made.raw)
        while len(self._kept) > MOST_KEPT or (self._bytes > MOST_BYTES and len(self._kept) > 1):
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.raw)


def _content(form: Form, batch: Batch) -> tuple[object, ...]:
    """Return what, beside type, version and removals, makes two responses say the same."""
    if batch.beats:
        return ("beats", batch.beats)
    if batch.missing and batch.type_url == VIRTUAL_HOST:  # these are told otherwise than removals
        return ("missing", batch.missing, *batch.changed.values())
    if form is not Form.DELTA and batch.type_url in FULL_STATE:
        return ("state", batch.wanted)
    changed = batch.changed
    if len(changed) <= _FEW:
        return tuple(changed.values())
    if changed is batch.target:
        return ("all", batch.wanted)
    return (len(changed), sum(each.digest for each in changed.values()))


def _printed(form: Form, batch: Batch, serial: int) -> Response:
    if form is Form.DELTA:
        resources = tuple(batch.changed.values())
        fields = [*map(_resource_field, resources), *_bodiless(batch)]
        missing = () if batch.type_url != VIRTUAL_HOST else batch.missing
        gone = tuple(name for name in batch.removed if name not in missing)
        end = [delimited(6, name.encode()) for name in gone]
    else:
        sent = batch.target if batch.type_url in FULL_STATE else batch.changed
        resources = tuple(sent.values())
        wrap = form is Form.SOTW_TTL
        fields = [_wrapped_field(r) if wrap and r.ttl else _any_field(r) for r in resources]
        end = []
    raw = b"".join(
        (
            delimited(1, batch.version.encode()),
            *fields,
            delimited(4, batch.type_url.encode()),
            delimited(5, str(serial).encode()),
            *end,
        )
    )
    return Response(batch.type_url, batch.version, serial, resources, batch.removed, raw)


def _bodiless(batch: Batch) -> Iterable[bytes]:
    """Yield what is said about resources without saying what they are.

    A heartbeat renews the life of a resource. A virtual host that does not exist is named with
    itself for an alias, which is how Envoy learns that nobody will ever send it.
    """
    for name in batch.beats:
        resource = batch.target[name]
        head = delimited(1, resource.version.encode())
        yield delimited(2, head + delimited(3, name.encode()) + _ttl(resource))
    if batch.type_url == VIRTUAL_HOST:
        for name in batch.missing:
            yield delimited(2, delimited(3, name.encode()) + delimited(4, name.encode()))


def _ttl(resource: Resource) -> bytes:
    if resource.ttl is None:
        return b""
    whole, part = divmod(resource.ttl, 1)
    seconds = b"\x08" + varint(int(whole)) if whole else b""
    nanos = b"\x10" + varint(int(part * 1e9)) if int(part * 1e9) else b""
    return delimited(6, seconds + nanos)


def _wrapped(resource_field: bytes) -> bytes:
    """Return a ``Resource`` field of a delta response as an ``Any`` field."""
    length = resource_field[1:]
    start = next(n for n, byte in enumerate(length, 1) if not byte & _MORE)
    return delimited(2, delimited(1, _WRAPPED.encode()) + delimited(2, length[start:]))


def _any_field(resource: Resource) -> bytes:
    if len(resource.body) > MOST_LEAF:
        return delimited(2, _any(resource))
    return _any_leaf(resource)


@lru_cache(maxsize=1 << 14)
def _any_leaf(resource: Resource) -> bytes:
    return delimited(2, _any(resource))


@lru_cache(maxsize=1 << 10)
def _wrapped_field(resource: Resource) -> bytes:
    return _wrapped(_whole(resource))


def _resource_field(resource: Resource) -> bytes:
    return _whole(resource) if len(resource.body) > MOST_LEAF else _resource_leaf(resource)


@lru_cache(maxsize=1 << 14)
def _resource_leaf(resource: Resource) -> bytes:
    return _whole(resource)


def _whole(resource: Resource) -> bytes:
    return delimited(
        2,
        b"".join(
            (
                delimited(1, resource.version.encode()),
                delimited(2, _any(resource)),
                delimited(3, resource.name.encode()),
                *(delimited(4, alias.encode()) for alias in resource.aliases),
                _ttl(resource),
            )
        ),
    )


def _any(resource: Resource) -> bytes:
    return delimited(1, resource.type_url.encode()) + delimited(2, resource.body)
