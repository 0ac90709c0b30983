"""World in, snapshots out: builds only what a change touches, and shares what is equal."""

from collections.abc import Set

from wherry.model.world import World
from xds.builders.own import Own
from xds.builders.parts import Parts
from xds.builders.scopes import ProxylessScope, Scope, Surroundings
from xds.builders.shares import Share, SharedLayer
from xds.builders.unknown import UNKNOWN
from xds.health.check import ClusterChecks
from xds.snapshot import Layer, Snapshot


class Compiler:
    """Keeps what it built. What it returns is byte for byte what a new one would build."""

    def __init__(self, world: World, around: Surroundings) -> None:
        self._parts = Parts()
        self._shared: dict[Share, SharedLayer] = {}
        self._own: dict[Scope, Own] = {}
        self._made: dict[Scope, tuple[Layer, Layer, Snapshot]] = {}
        self._parts.update(world, around)

    def update(self, world: World, around: Surroundings) -> None:
        """Take the newest World and surroundings."""
        touched = self._parts.update(world, around)
        for shared in self._shared.values():
            shared.update(self._parts, touched)

    @property
    def checks(self) -> tuple[ClusterChecks, ...]:
        """What Envoys are to check; the very same as before while nothing of it changes."""
        return self._parts.checks.asked

    def snapshot(self, scope: Scope) -> Snapshot:
        """Return everything that a client of ``scope`` is told.

        Raises:
            DanglingReference: What it is told does not hold together.
            DuplicateResource: Two different resources would have one name.
        """
        own = self._own.get(scope)
        if own is None:
            own = self._own[scope] = Own(scope)
        own.update(self._parts)
        shared = self._shared.get(own.share)
        if shared is None:
            shared = self._shared[own.share] = SharedLayer(own.share, self._parts)
        made = self._made.get(scope)
        if made is None or made[0] is not shared.layer or made[1] is not own.layer:
            unknown = UNKNOWN if isinstance(scope, ProxylessScope) else None
            stacked = Snapshot.stacked(shared.layer, own.layer, on_demand=unknown)
            made = self._made[scope] = (shared.layer, own.layer, stacked)
        return made[2]

    def keep(self, scopes: Set[Scope]) -> None:
        """Forget what was built for other scopes than these."""
        for scope in self._own.keys() - scopes:
            del self._own[scope]
            self._made.pop(scope, None)
        needed = {own.share for own in self._own.values()}
        for share in self._shared.keys() - needed:
            del self._shared[share]


def snapshot(scope: Scope, world: World, around: Surroundings) -> Snapshot:
    """Return everything that a client of ``scope`` is told, built from nothing."""
    return Compiler(world, around).snapshot(scope)
