"""What one group of nodes should know: an immutable, self-consistent set of resources."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Self

from wherry.errors import WherryError
from xds.resource import ORDER, Ref, Resource, TypeUrl, rank

_NONE: Mapping[str, Resource] = MappingProxyType({})
_NO_REFS: frozenset[Ref] = frozenset()


class DanglingReference(WherryError):
    """A resource names another that the snapshot does not hold."""

    def __init__(self, holder: Resource, ref: Ref) -> None:
        type_url, name = ref
        kind = holder.type_url.rpartition(".")[2]
        super().__init__(
            f"{kind} {holder.name!r}: refers to missing {type_url.rpartition('.')[2]} {name!r}, "
            "expected one of the same snapshot"
        )
        self.holder, self.ref = holder, ref


class DuplicateResource(WherryError):
    """Two resources of one type have the same name and different content."""

    def __init__(self, type_url: TypeUrl, name: str) -> None:
        kind = type_url.rpartition(".")[2]
        super().__init__(f"{kind} {name!r}: given twice, expected one of that name")
        self.type_url, self.name = type_url, name


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Every resource that one group of nodes should know. Build with `of`; never changes.

    Attributes:
        by_type: Resources by type URL and name; every type of `ORDER` is present.
        versions: Version of each type; changes exactly when a resource of that type does.
        needs: For a resource, everything that must be at the client before it: what it reaches
            through references in types that go out earlier than its own. Absent when empty.
    """

    by_type: Mapping[TypeUrl, Mapping[str, Resource]]
    versions: Mapping[TypeUrl, str]
    needs: Mapping[Ref, frozenset[Ref]]

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Self:
        """Index ``resources`` and check that every reference lands.

        Raises:
            DanglingReference: A resource names one that is not given.
            DuplicateResource: Two of one type share a name.
        """
        index: dict[TypeUrl, dict[str, Resource]] = {type_url: {} for type_url in ORDER}
        for resource in resources:
            named = index.setdefault(resource.type_url, {})
            if named.setdefault(resource.name, resource) != resource:
                raise DuplicateResource(resource.type_url, resource.name)
        for named in index.values():
            for resource in named.values():
                for type_url, name in resource.refs:
                    if name not in index.get(type_url, _NONE):
                        raise DanglingReference(resource, (type_url, name))
        return cls(
            MappingProxyType({t: MappingProxyType(named) for t, named in index.items()}),
            MappingProxyType({t: version_of(named) for t, named in index.items()}),
            MappingProxyType(_needs(index)),
        )

    def named(self, type_url: TypeUrl) -> Mapping[str, Resource]:
        """Return the resources of one type by name; empty for a type that it does not know."""
        return self.by_type.get(type_url, _NONE)

    def version(self, type_url: TypeUrl) -> str:
        """Return the version of one type, also for a type without resources."""
        return self.versions.get(type_url) or version_of(_NONE)

    def needs_of(self, resource: Resource) -> frozenset[Ref]:
        """Return what must be at the client before ``resource``."""
        return self.needs.get((resource.type_url, resource.name), _NO_REFS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return self.versions == other.versions

    def __hash__(self) -> int:
        return hash(frozenset(self.versions.items()))


def version_of(named: Mapping[str, Resource]) -> str:
    """Return the version of a set of resources of one type: 16 hex digits."""
    digest = blake2b(digest_size=8)
    for name in sorted(named):
        digest.update(f"{len(name)}:{name}={named[name].version};".encode())
    return digest.hexdigest()


def _needs(index: Mapping[TypeUrl, Mapping[str, Resource]]) -> dict[Ref, frozenset[Ref]]:
    reached: dict[Ref, frozenset[Ref]] = {}

    def reach(ref: Ref) -> frozenset[Ref]:
        if (known := reached.get(ref)) is not None:
            return known
        reached[ref] = _NO_REFS
        refs = index[ref[0]][ref[1]].refs
        reached[ref] = refs.union(*map(reach, refs)) if refs else _NO_REFS
        return reached[ref]

    needs: dict[Ref, frozenset[Ref]] = {}
    for type_url, named in index.items():
        place = rank(type_url)
        for name in named:
            earlier = frozenset(r for r in reach((type_url, name)) if rank(r[0]) < place)
            if earlier:
                needs[type_url, name] = earlier
    return needs
