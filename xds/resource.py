"""One xDS resource: named, serialized once, and versioned by its content."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NewType

TypeUrl = NewType("TypeUrl", str)

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTER = TypeUrl(_PREFIX + "cluster.v3.Cluster")
ENDPOINT = TypeUrl(_PREFIX + "endpoint.v3.ClusterLoadAssignment")
LISTENER = TypeUrl(_PREFIX + "listener.v3.Listener")
ROUTE = TypeUrl(_PREFIX + "route.v3.RouteConfiguration")

ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""Make-before-break: types go out in this order; a type that is not listed goes last.

A client asks by itself for what a resource refers to in a *later* type (a cluster's endpoints, a
listener's routes). What it refers to in an *earlier* type has to be there before it.
"""

FULL_STATE = frozenset({CLUSTER, LISTENER})
"""Types of which a state-of-the-world response lists everything: what it leaves out is gone."""

WARMED_BY = {CLUSTER: ENDPOINT}
"""A changed resource of the first type waits in Envoy until the second is sent again."""

Ref = tuple[TypeUrl, str]
"""Type and name of a resource that another one needs."""


def rank(type_url: TypeUrl) -> int:
    """Return the place of ``type_url`` in `ORDER`; all types that are not listed share the last."""
    return ORDER.index(type_url) if type_url in ORDER else len(ORDER)


def in_order(types: Iterable[TypeUrl]) -> list[TypeUrl]:
    """Return ``types`` in the order in which they go out."""
    return sorted(types, key=lambda type_url: (rank(type_url), type_url))


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One xDS resource; equal when type, name and content are.

    Attributes:
        type_url: Full type URL, as on the wire.
        name: Unique within the type.
        body: Serialized message, deterministic, without the ``Any`` envelope.
        refs: Every resource that this one needs.
        version: Content hash, 16 hex digits, computed once; equal bodies have equal versions.
    """

    type_url: TypeUrl
    name: str
    body: bytes = field(repr=False)
    refs: frozenset[Ref] = frozenset()
    version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", blake2b(self.body, digest_size=8).hexdigest())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resource):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[TypeUrl, str, str, frozenset[Ref]]:
        return (self.type_url, self.name, self.version, self.refs)
