"""How many instances to keep: a pure function of what is seen, returning what to do."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """Start ``count`` more instances of ``pool``."""

    pool: str
    count: int


@dataclass(frozen=True, slots=True)
class Reap:
    """Stop one idle instance."""

    pool: str
    instance: str


@dataclass(frozen=True, slots=True)
class Pool:
    """The instances of one version of one function.

    Attributes:
        waiting: Calls that no instance has taken.
        starting: Instances on their way.
        busy: Instances with a call.
        idle_since: Monotonic seconds when each idle instance went idle.
        ending: Instances told to stop that still hold memory.
        limit: Most instances that this pool may have.
        retiring: A newer version has taken over: serve what waits, keep nothing.
    """

    waiting: int
    starting: int
    busy: int
    idle_since: Mapping[str, float]
    limit: int
    ending: int = 0
    retiring: bool = False

    @property
    def size(self) -> int:
        """How many instances exist, are on their way or are not gone yet."""
        return self.starting + self.busy + len(self.idle_since) + self.ending

    @property
    def short(self) -> int:
        """How many instances to start, were there room for all of them."""
        unserved = self.waiting - self.starting - len(self.idle_since)
        return max(0, min(unserved, self.limit - self.size))


@dataclass(frozen=True, slots=True)
class Seen:
    """Every pool at one instant.

    Attributes:
        pools: By key.
        total: Most instances that all pools together may have.
    """

    pools: Mapping[str, Pool]
    total: int


def plan(seen: Seen, *, now: float, keep_idle: float) -> list[Start | Reap]:
    """Return what brings the pools closer to what their calls need.

    Instances that idled for ``keep_idle`` seconds go, and so do the idle ones of retiring pools.
    Room is dealt one instance at a time to each pool that is short, so that no function starves
    another; when there is no room, the instances that idled longest are told to go, and the room is
    dealt once they are gone.

    Args:
        seen: What is.
        now: Monotonic seconds.
        keep_idle: Seconds (>= 0) that an instance may idle.
    """
    reaps = _overdue(seen, now, keep_idle)
    spare = _coldest_first(seen, {(reap.pool, reap.instance) for reap in reaps})
    room = max(0, seen.total - sum(pool.size for pool in seen.pools.values()))
    turns = _dealt({key: pool.short for key, pool in seen.pools.items()})
    starts = Counter(turns[:room])
    leaving = len(reaps) + sum(pool.ending for pool in seen.pools.values())
    evictions = max(0, len(turns) - room - leaving)
    return [
        *reaps,
        *spare[:evictions],
        *(Start(key, count) for key, count in starts.items()),
    ]


def _overdue(seen: Seen, now: float, keep_idle: float) -> list[Reap]:
    """Return idle instances that no waiting call will take and whose time is up."""
    reaps: list[Reap] = []
    for key, pool in seen.pools.items():
        coldest = sorted(pool.idle_since, key=lambda each: (pool.idle_since[each], each))
        reaps.extend(
            Reap(key, instance)
            for instance in coldest[: max(0, len(coldest) - pool.waiting)]
            if pool.retiring or now - pool.idle_since[instance] >= keep_idle
        )
    return reaps


def _coldest_first(seen: Seen, gone: set[tuple[str, str]]) -> list[Reap]:
    """Return the idle instances that may make room, the one that idled longest first."""
    spare = sorted(
        (since, key, instance)
        for key, pool in seen.pools.items()
        if not pool.waiting
        for instance, since in pool.idle_since.items()
        if (key, instance) not in gone
    )
    return [Reap(key, instance) for _, key, instance in spare]


def _dealt(wanted: Mapping[str, int]) -> list[str]:
    """Return the keys in rounds, each as often as it is wanted."""
    most = max(wanted.values(), default=0)
    return [key for turn in range(most) for key, count in wanted.items() if count > turn]
