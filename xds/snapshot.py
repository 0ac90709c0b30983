"""What one group of nodes should know: immutable, self-consistent, made of shared layers.

A `Layer` is a set of resources; many snapshots share one. A `Snapshot` stacks a few of them and
checks that every reference lands. A layer remembers what sets it apart from the one that it was
made from, so that the difference of two snapshots costs what changed and not what there is.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Self

from wherry.errors import WherryError
from xds.resource import Ref, Resource, TypeUrl, rank

Named = Mapping[str, Resource]
"""Resources of one type by name."""

NONE: MappingProxyType[str, Resource] = MappingProxyType({})
_NO_NAMES: frozenset[str] = frozenset()
_BITS = (1 << 64) - 1
_UNLISTED = 3
"""Sets a resource that is not listed apart from one that is, in the version."""


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
class Change:
    """What sets one state of a type apart from an earlier one.

    Attributes:
        put: Resources that are new or different.
        gone: Names that are no longer there.
    """

    put: Named
    gone: frozenset[str] = _NO_NAMES


Changes = Mapping[TypeUrl, Change]
_SAME = Change(NONE)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Layer:
    """A set of resources, shared by many snapshots. Build with `of` and `changed`; never changes.

    Attributes:
        by_type: Resources by type and name.
        sums: By type, the digests of its resources added up (modulo 2**64): a content hash that
            changes with one resource at the cost of one.
        open_refs: References that do not land in this layer, with one resource that has each.
        parent: The layer that it was made from, while that lives.
        changes: What sets it apart from that layer.
    """

    by_type: Mapping[TypeUrl, MappingProxyType[str, Resource]]
    sums: Mapping[TypeUrl, int]
    open_refs: Mapping[Ref, Resource]
    parent: "weakref.ref[Layer] | None" = None
    changes: Changes = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Self:
        """Index ``resources``.

        Raises:
            DuplicateResource: Two of one type share a name and differ.
        """
        index: dict[TypeUrl, dict[str, Resource]] = {}
        for resource in resources:
            named = index.setdefault(resource.type_url, {})
            if named.setdefault(resource.name, resource) != resource:
                raise DuplicateResource(resource.type_url, resource.name)
        return cls(_frozen(index), {t: _sum(named) for t, named in index.items()}, _open(index))

    def changed(self, put: Iterable[Resource] = (), gone: Iterable[Ref] = ()) -> "Layer":
        """Return the layer with ``put`` added or exchanged and ``gone`` removed.

        Costs what the touched types hold, and a walk over all references when something is
        removed. What is put as it is already there, or is gone already, changes nothing; if all
        is so, the layer itself is returned.
        """
        puts: dict[TypeUrl, dict[str, Resource]] = {}
        names: dict[TypeUrl, set[str]] = {}
        for type_url, name in gone:
            if name in self.by_type.get(type_url, NONE):
                names.setdefault(type_url, set()).add(name)
        for each in put:
            if self.by_type.get(each.type_url, NONE).get(each.name) != each:
                puts.setdefault(each.type_url, {})[each.name] = each
            names.get(each.type_url, set()).discard(each.name)
        touched = {t for t in (*puts, *names) if puts.get(t) or names.get(t)}
        if not touched:
            return self
        index, sums = dict(self.by_type), dict(self.sums)
        changes = {}
        for type_url in touched:
            before = index.get(type_url, NONE)
            added, lost = puts.get(type_url, {}), names.get(type_url, set())
            after = before | added
            for name in lost:
                del after[name]
            old = sum(before[name].digest for name in (*added, *lost) if name in before)
            new = sum(each.digest for each in added.values())
            index[type_url] = MappingProxyType(after)
            sums[type_url] = (sums.get(type_url, 0) - old + new) & _BITS
            if not after:
                del index[type_url], sums[type_url]
            changes[type_url] = Change(MappingProxyType(added), frozenset(lost))
        removed = any(change.gone for change in changes.values())
        return Layer(
            MappingProxyType(index),
            sums,
            _open(index) if removed else _still_open(self.open_refs, index, changes),
            weakref.ref(self),
            MappingProxyType(changes),
        )

    def since(self, older: "Layer") -> Changes:
        """Return what sets this layer apart from ``older``, by type; cheap from its parent."""
        if older is self:
            return MappingProxyType({})
        if self.parent is not None and self.parent() is older:
            return self.changes
        return _between(older, self)


_NOTHING = Layer({}, {}, {})


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Every resource that one group of nodes should know. Build with `of` or `stacked`.

    Attributes:
        layers: What it is made of.
        on_demand: Resources that only who asks for them by name gets.
        by_type: What a wildcard subscription gets, by type and name.
        versions: Version of each type; changes exactly when a resource of that type does.
    """

    layers: tuple[Layer, ...]
    on_demand: Layer | None
    by_type: Mapping[TypeUrl, Named]
    versions: Mapping[TypeUrl, str]

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Self:
        """Make a snapshot of one layer.

        Raises:
            DanglingReference: A resource names one that is not given.
            DuplicateResource: Two of one type share a name.
        """
        return cls.stacked(Layer.of(resources))

    @classmethod
    def stacked(cls, *layers: Layer, on_demand: Layer | None = None) -> Self:
        """Put layers together.

        Args:
            layers: Everything that is known; a name is in one of them only.
            on_demand: What is known, too, but not listed.

        Raises:
            DanglingReference: A resource names one that no layer holds.
            DuplicateResource: Two layers hold one name of a type.
        """
        everything = layers if on_demand is None else (*layers, on_demand)
        by_type: dict[TypeUrl, Named] = {}
        for layer in layers:
            for type_url, named in layer.by_type.items():
                below = by_type.get(type_url)
                by_type[type_url] = named if not below else _Stacked(type_url, below, named)
        sums: dict[TypeUrl, int] = {}
        for layer in everything:
            weight = _UNLISTED if layer is on_demand else 1
            for type_url, total in layer.sums.items():
                sums[type_url] = (sums.get(type_url, 0) + weight * total) & _BITS
        for layer in everything:
            for ref, holder in layer.open_refs.items():
                if not any(ref[1] in each.by_type.get(ref[0], NONE) for each in everything):
                    raise DanglingReference(holder, ref)
        versions = {type_url: f"{total:016x}" for type_url, total in sums.items()}
        return cls(layers, on_demand, MappingProxyType(by_type), MappingProxyType(versions))

    @property
    def size(self) -> int:
        """How many resources it holds, listed or not."""
        return sum(len(named) for layer in self._all() for named in layer.by_type.values())

    def named(self, type_url: TypeUrl) -> Named:
        """Return the listed resources of one type; empty for a type that it does not know."""
        return self.by_type.get(type_url, NONE)

    def find(self, type_url: TypeUrl, name: str) -> Resource | None:
        """Return a resource, listed or not; None when there is none of that name."""
        found = self.by_type.get(type_url, NONE).get(name)
        if found is None and self.on_demand is not None:
            return self.on_demand.by_type.get(type_url, NONE).get(name)
        return found

    def version(self, type_url: TypeUrl) -> str:
        """Return the version of one type, also for a type without resources."""
        return self.versions.get(type_url, _EMPTY)

    def reach(self, resource: Resource) -> Iterator[Ref]:
        """Yield what must be at the client before ``resource``.

        That is what it reaches through references in types that go out earlier than its own.
        """
        place, seen, rest = rank(resource.type_url), set(resource.refs), list(resource.refs)
        while rest:
            ref = rest.pop()
            if rank(ref[0]) < place:
                yield ref
            if (found := self.find(*ref)) is not None:
                rest.extend(found.refs - seen)
                seen |= found.refs

    def needs_of(self, resource: Resource) -> frozenset[Ref]:
        """Return what must be at the client before ``resource``, as a set."""
        return frozenset(self.reach(resource))

    def since(self, older: "Snapshot") -> Changes:
        """Return what sets this snapshot apart from ``older``, by type.

        A name that is listed no more, or not only on demand, is both gone and put.
        """
        here, there = self.layers, older.layers
        if len(here) != len(there):
            here, there = (Layer.of(self._listed()),), (Layer.of(older._listed()),)
        pairs = [(a, b) for a, b in zip(there, here, strict=True) if a is not b]
        changes = _of_pairs(pairs)
        if self.on_demand is older.on_demand:
            return changes
        unlisted = (self.on_demand or _NOTHING).since(older.on_demand or _NOTHING)
        return _merged([changes, unlisted])

    def _all(self) -> tuple[Layer, ...]:
        return self.layers if self.on_demand is None else (*self.layers, self.on_demand)

    def _listed(self) -> Iterator[Resource]:
        for layer in self.layers:
            for named in layer.by_type.values():
                yield from named.values()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return self.versions == other.versions

    def __hash__(self) -> int:
        return hash(frozenset(self.versions.items()))


class _Stacked(Mapping[str, Resource]):
    """Two mappings without a name in common, as one."""

    __slots__ = ("_above", "_below")

    def __init__(self, type_url: TypeUrl, below: Named, above: Named) -> None:
        small, large = sorted((below, above), key=len)
        for name in small:
            if name in large:
                raise DuplicateResource(type_url, name)
        self._below, self._above = below, above

    def __getitem__(self, name: str) -> Resource:
        found = self._above.get(name)
        return self._below[name] if found is None else found

    def __contains__(self, name: object) -> bool:
        return name in self._above or name in self._below

    def __iter__(self) -> Iterator[str]:
        yield from self._below
        yield from self._above

    def __len__(self) -> int:
        return len(self._below) + len(self._above)


def version_of(named: Iterable[Resource]) -> str:
    """Return the version of a set of resources of one type: 16 hex digits."""
    return f"{sum(each.digest for each in named) & _BITS:016x}"


_EMPTY = version_of(())


def _sum(named: Named) -> int:
    return sum(each.digest for each in named.values()) & _BITS


def _frozen(
    index: Mapping[TypeUrl, dict[str, Resource]],
) -> Mapping[TypeUrl, MappingProxyType[str, Resource]]:
    return MappingProxyType({t: MappingProxyType(named) for t, named in index.items()})


def _open(index: Mapping[TypeUrl, Named]) -> Mapping[Ref, Resource]:
    return {
        ref: resource
        for named in index.values()
        for resource in named.values()
        for ref in resource.refs
        if ref[1] not in index.get(ref[0], NONE)
    }


def _still_open(
    before: Mapping[Ref, Resource], index: Mapping[TypeUrl, Named], changes: Changes
) -> Mapping[Ref, Resource]:
    """Return the open references after a change that removes nothing."""
    holders = {(r.type_url, r.name) for change in changes.values() for r in change.put.values()}
    after = {
        ref: holder
        for ref, holder in before.items()
        if ref[1] not in index.get(ref[0], NONE) and (holder.type_url, holder.name) not in holders
    }
    if len(after) != len(before):
        return _open(index)
    for change in changes.values():
        for resource in change.put.values():
            for ref in resource.refs:
                if ref[1] not in index.get(ref[0], NONE):
                    after[ref] = resource
    return after


def _of_pairs(pairs: list[tuple[Layer, Layer]]) -> Changes:
    if len(pairs) == 1:
        older, newer = pairs[0]
        return newer.since(older)
    merged = _merged(newer.since(older) for older, newer in pairs)
    return {t: Change(c.put, c.gone - c.put.keys()) for t, c in merged.items()}


def _merged(parts: Iterable[Changes]) -> Changes:
    merged: dict[TypeUrl, Change] = {}
    for changes in parts:
        for type_url, each in changes.items():
            other = merged.get(type_url, _SAME)
            merged[type_url] = Change({**other.put, **each.put}, other.gone | each.gone)
    return merged


@lru_cache(maxsize=8)
def _between(older: Layer, newer: Layer) -> Changes:
    changes = {}
    for type_url in {**older.by_type, **newer.by_type}:
        before, after = older.by_type.get(type_url, NONE), newer.by_type.get(type_url, NONE)
        if before is after:
            continue
        put = {name: r for name, r in after.items() if before.get(name) != r}
        gone = frozenset(before.keys() - after.keys())
        if put or gone:
            changes[type_url] = Change(MappingProxyType(put), gone)
    return changes
