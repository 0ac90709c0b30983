"""One xDS resource: named, serialized once, and versioned by its content."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NewType

TypeUrl = NewType("TypeUrl", str)

_PREFIX = "type.googleapis.com/envoy."
SECRET = TypeUrl(_PREFIX + "extensions.transport_sockets.tls.v3.Secret")
CLUSTER = TypeUrl(_PREFIX + "config.cluster.v3.Cluster")
ENDPOINT = TypeUrl(_PREFIX + "config.endpoint.v3.ClusterLoadAssignment")
EXTENSION = TypeUrl(_PREFIX + "config.core.v3.TypedExtensionConfig")
LISTENER = TypeUrl(_PREFIX + "config.listener.v3.Listener")
SCOPED_ROUTE = TypeUrl(_PREFIX + "config.route.v3.ScopedRouteConfiguration")
ROUTE = TypeUrl(_PREFIX + "config.route.v3.RouteConfiguration")
VIRTUAL_HOST = TypeUrl(_PREFIX + "config.route.v3.VirtualHost")
RUNTIME = TypeUrl(_PREFIX + "service.runtime.v3.Runtime")

ORDER = (
    SECRET,
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    SCOPED_ROUTE,
    ROUTE,
    VIRTUAL_HOST,
    RUNTIME,
)
"""Make-before-break: types go out in this order; a type that is not listed goes last.

A client asks by itself for what a resource refers to in a *later* type (a cluster's endpoints, a
listener's routes). What it refers to in an *earlier* type has to be there before it. Secrets and
extensions come before what needs them although clients ask for them later: a client that did not
ask for one yet is not kept waiting for it.
"""

FULL_STATE = frozenset({CLUSTER, LISTENER, SCOPED_ROUTE})
"""Types of which a state-of-the-world response lists everything: what it leaves out is gone."""

WARMED_BY = {CLUSTER: ENDPOINT}
"""A changed resource of the first type waits in Envoy until the second is sent again."""

_RANKS = {type_url: place for place, type_url in enumerate(ORDER)}

Ref = tuple[TypeUrl, str]
"""Type and name of a resource that another one needs."""


def rank(type_url: TypeUrl) -> int:
    """Return the place of ``type_url`` in `ORDER`; all types that are not listed share the last."""
    return _RANKS.get(type_url, len(ORDER))


def in_order(types: Iterable[TypeUrl]) -> list[TypeUrl]:
    """Return ``types`` in the order in which they go out."""
    return sorted(types, key=lambda type_url: (rank(type_url), type_url))


class Resource:
    """One xDS resource; equal when type, name, content and references are. Never changes.

    Attributes:
        type_url: Full type URL, as on the wire.
        name: Unique within the type.
        body: Serialized message, deterministic, without the ``Any`` envelope.
        refs: Every resource that this one needs.
        ttl: Seconds after which a client forgets it unless it hears of it again; None: never.
        aliases: Other names that clients may ask for it by.
        sources: Kind and name of each resource of the `World` that it was made from. Not part of
            what makes two resources equal.
        version: Content hash, 16 hex digits; equal bodies of equal life have equal versions.
        digest: Hash of name and version, below 2**64; those of a set add up to its version.
    """

    __slots__ = (
        "_hash",
        "aliases",
        "body",
        "digest",
        "name",
        "refs",
        "sources",
        "ttl",
        "type_url",
        "version",
    )

    def __init__(
        self,
        type_url: TypeUrl,
        name: str,
        body: bytes,
        refs: frozenset[Ref] = frozenset(),
        *,
        ttl: float | None = None,
        aliases: tuple[str, ...] = (),
        sources: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.type_url, self.name, self.body, self.refs = type_url, name, body, refs
        self.ttl, self.aliases, self.sources = ttl, aliases, sources
        content = blake2b(body, digest_size=8)
        if ttl is not None or aliases:
            content.update(f"{ttl}{aliases}".encode())
        self.version = content.hexdigest()
        named = blake2b(f"{len(name)}:{name}={self.version}".encode(), digest_size=8)
        self.digest = int.from_bytes(named.digest())
        self._hash = hash((type_url, self.digest, refs))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Resource):
            return NotImplemented
        return (
            self.digest == other.digest
            and self.type_url == other.type_url
            and self.name == other.name
            and self.version == other.version
            and self.refs == other.refs
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        kind = self.type_url.rpartition(".")[2]
        return f"Resource({kind} {self.name!r}, version={self.version})"
