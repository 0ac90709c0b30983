"""Which fleet serves a version: the current one, the one to come, and those that go."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from faas.running.instance import Fleet
from faas.running.shares import Version
from faas.telemetry.logs import Ring
from faas.vm import Backend, Launch


class Fleets:
    """Every fleet there is, by key, and which of them serves each version.

    Args:
        backend: Where images that were saved earlier are kept.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._all: dict[str, Fleet] = {}
        self._current: dict[Version, Fleet] = {}
        self._coming: dict[Version, Fleet] = {}
        self._provisioned: dict[Version, int] = {}
        self._numbers = itertools.count(1)
        self._closing = False

    def __iter__(self) -> Iterator[Fleet]:
        return iter(self._all.values())

    def __getitem__(self, key: str) -> Fleet:
        return self._all[key]

    def current(self, name: str, version: str) -> Fleet | None:
        """Return the fleet that serves a version; None: it has none yet."""
        return self._current.get((name, version))

    def serving(self, launch: Launch, ring: Ring) -> Fleet:
        """Return the fleet that serves calls for ``launch`` now, made if need be.

        While a newer launch of the version is coming, the present one serves its calls as well.
        """
        version = launch.function, launch.version
        current, coming = self._current.get(version), self._coming.get(version)
        if current is not None and (
            _same(current.launch, launch) or (coming is not None and _same(coming.launch, launch))
        ):
            return current
        return self._set(version, self._opened(launch, ring))

    def coming(self, launch: Launch, ring: Ring) -> Fleet:
        """Return a fleet for ``launch`` that `take_over` may be called with."""
        version = launch.function, launch.version
        current = self._current.get(version)
        if current is None or _same(current.launch, launch):
            return self.serving(launch, ring)
        fleet = self._opened(launch, ring)
        _drop(self._coming.get(version), unless=fleet)
        self._coming[version] = fleet
        return fleet

    def take_over(self, fleet: Fleet) -> None:
        """Let ``fleet`` serve its version from now on, unless a newer one is on its way."""
        if self._coming.get(fleet.name) is fleet:
            del self._coming[fleet.name]
            self._set(fleet.name, fleet)

    def retire(self, name: str, version: str | None) -> None:
        """Let a version, or all of a function, serve what waits and then go."""
        for each in (self._coming, self._current):
            for key in [key for key in each if key[0] == name and version in (None, key[1])]:
                _drop(each.pop(key))
        self._forget(name, version)

    def provision(self, launch: Launch, ring: Ring, count: int) -> None:
        """Keep ``count`` instances of ``launch``, from now on and for what takes over from it."""
        version = launch.function, launch.version
        if count:
            self._provisioned[version] = count
            fleet = self.serving(launch, ring)
            fleet.launch = launch
        elif self._provisioned.pop(version, 0) and version in self._current:
            fleet = self._current[version]
            fleet.launch = replace(fleet.launch, initialization=launch.initialization)
        else:
            return
        fleet.provisioned = count

    def wanted(self, version: Version) -> int:
        """Return how many instances are provisioned for a version."""
        return self._provisioned.get(version, 0)

    def all_provisioned(self) -> list[Version]:
        """Return the versions that have provisioned instances."""
        return list(self._provisioned)

    def provisioned(self, name: str, version: str | None) -> list[Version]:
        """Return the versions of a function, or the one, that have provisioned instances."""
        return [key for key in self._provisioned if key[0] == name and version in (None, key[1])]

    def forget_provisioned(self, name: str, version: str | None) -> None:
        """Keep no instances of a version, or of all of a function."""
        for key in self.provisioned(name, version):
            del self._provisioned[key]

    def close(self) -> None:
        """Let every fleet serve what waits; images that serve a version now stay."""
        self._closing = True
        for fleet in self._all.values():
            fleet.retiring = True
            fleet.forget_preparations()

    def sweep(self) -> None:
        """Remove the fleets that are over, and their images unless they serve a version."""
        for fleet in [each for each in self._all.values() if each.over]:
            del self._all[fleet.key]
            if not (self._closing and self._current.get(fleet.name) is fleet):
                fleet.discard_image()

    def _set(self, version: Version, fleet: Fleet) -> Fleet:
        _drop(self._current.get(version), unless=fleet)
        fleet.provisioned = self._provisioned.get(version, 0)
        self._current[version] = fleet
        self._forget(*version)
        return fleet

    def _forget(self, name: str, version: str | None) -> None:
        """Remove images that no fleet starts from: of what was changed or deleted since."""
        live = [fleet.image for fleet in self._all.values() if fleet.image is not None]
        self._backend.forget(name, version, but=live)

    def _opened(self, launch: Launch, ring: Ring) -> Fleet:
        """Return a fleet for ``launch``: one that was about to go, or a new one.

        A new one starts with the image that an earlier process kept.
        """
        for fleet in self._all.values():
            if fleet.retiring and _same(fleet.launch, launch):
                fleet.retiring, fleet.ring, fleet.provisioned = False, ring, 0
                return fleet
        key = f"{launch.function}#{next(self._numbers)}"
        fleet = self._all[key] = Fleet(key, launch, ring)
        if self._backend.saves(launch):
            fleet.image = self._backend.kept(launch)
        return fleet


def _same(one: Launch, other: Launch) -> bool:
    """Return whether two launches run the same, however they say that they were started."""
    return replace(one, initialization=other.initialization) == other


def _drop(fleet: Fleet | None, *, unless: Fleet | None = None) -> None:
    if fleet is not None and fleet is not unless:
        fleet.retiring = True
        fleet.provisioned = 0
