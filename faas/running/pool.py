"""How many instances to keep: a pure function of what is seen, returning what to do."""

import math
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
    """Stop one idle instance.

    Attributes:
        pressed: Its memory is needed; it had time left.
    """

    pool: str
    instance: str
    pressed: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """The instances of one version of one function.

    Attributes:
        waiting: Calls that no instance has taken.
        starting: Instances on their way.
        busy: Instances with a call.
        idle_since: Monotonic seconds when each idle instance went idle.
        limit: Most instances that this pool may have.
        ending: Instances told to stop that still hold memory.
        retiring: A newer launch has taken over: serve what waits, keep nothing.
        target: Instances to have, busy ones included, so that calls find one ready.
        kept: Instances that were provisioned: they neither idle out nor make room.
        cost_mib: Memory that one more instance is expected to take.
    """

    waiting: int
    starting: int
    busy: int
    idle_since: Mapping[str, float]
    limit: int
    ending: int = 0
    retiring: bool = False
    target: int = 0
    kept: int = 0
    cost_mib: int = 0

    @property
    def size(self) -> int:
        """How many instances exist, are on their way or are not gone yet."""
        return self.living + self.ending

    @property
    def living(self) -> int:
        """How many instances exist or are on their way, and are to stay."""
        return self.starting + self.busy + len(self.idle_since)

    @property
    def short(self) -> int:
        """How many instances the waiting calls lack."""
        unserved = self.waiting - self.starting - len(self.idle_since)
        return max(0, min(unserved, self.limit - self.size))

    def ahead(self, wanted: int) -> int:
        """Return how many instances are missing to ``wanted``, besides those that calls lack."""
        wanted = 0 if self.retiring else min(wanted, self.limit - self.ending)
        return max(0, wanted - self.living - self.short)

    def spare(self, kept: int) -> int:
        """Return how many idle instances neither a waiting call nor ``kept`` needs."""
        if self.retiring:
            kept = 0
        return max(0, min(len(self.idle_since) - self.waiting, self.living - kept))

    def coldest(self) -> list[str]:
        """Return the idle instances, the one that idled longest first."""
        return sorted(self.idle_since, key=lambda each: (self.idle_since[each], each))


@dataclass(frozen=True, slots=True)
class Memory:
    """The host's memory.

    Attributes:
        available_mib: What can be had without swapping.
        floor_mib: What is to stay available.
        stalled: Share of time (0 to 100) in which something lately waited for memory.
    """

    available_mib: int
    floor_mib: int
    stalled: float = 0.0

    @property
    def pressed(self) -> bool:
        """Whether programs wait for memory already."""
        return self.stalled >= STALLED


STALLED = 10.0
"""Share of time (0 to 100) spent waiting for memory at which some is given back.

Source: https://docs.kernel.org/accounting/psi.html (``some avg10``).
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Every pool at one instant.

    Attributes:
        pools: By key.
        total: Most instances that all pools together may have.
        starts: Most instances that may be on their way at once.
        memory: The host's memory; None: not looked at.
    """

    pools: Mapping[str, Pool]
    total: int
    starts: int = 1 << 30
    memory: Memory | None = None


def plan(seen: Seen, *, now: float, keep_idle: float) -> list[Start | Reap]:
    """Return what brings the pools closer to what their calls need.

    Instances that idled for ``keep_idle`` seconds go unless their pool's target or provisioning
    holds them; so do the idle ones of retiring pools. Room is dealt one instance at a time to
    each pool that is short, so that no function starves another: first for calls that wait, then
    for what was provisioned, then for what the rate of calls asks for. When waiting calls or
    provisioned instances find no room, and when the host runs short of memory, the instances that
    idled longest are told to go; the room is dealt once they are gone.

    Args:
        seen: What is.
        now: Monotonic seconds.
        keep_idle: Seconds (>= 0) that an instance may idle.
    """
    reaps = _overdue(seen, now, keep_idle)
    gone = {(reap.pool, reap.instance) for reap in reaps}
    starts, unmet = _starts(seen)
    leaving = len(reaps) + sum(pool.ending for pool in seen.pools.values())
    wanted = max(0, unmet - leaving)
    makers = _makers(seen, gone)
    evicted = makers[:wanted]
    pressed = _given_back(seen, makers[wanted:], reaps + evicted)
    return [*reaps, *evicted, *pressed, *(Start(key, count) for key, count in starts.items())]


def _starts(seen: Seen) -> tuple[Counter[str], int]:
    """Return what to start, and for how many more there should be room but is none."""
    pools = seen.pools
    needed = _dealt({key: pool.short for key, pool in pools.items()})
    needed += _dealt({key: pool.ahead(pool.kept) for key, pool in pools.items()})
    hoped = _dealt(
        {key: pool.ahead(pool.target) - pool.ahead(pool.kept) for key, pool in pools.items()}
    )
    slots = max(0, seen.starts - sum(pool.starting for pool in pools.values()))
    size = sum(pool.size for pool in pools.values())
    room = max(0, seen.total - size)
    spend = _spendable(seen.memory)
    starts: Counter[str] = Counter()
    for key in needed[:slots]:
        alone = not size and not starts
        if room == 0 or (spend < pools[key].cost_mib and not alone):
            break
        starts[key] += 1
        room, spend = room - 1, spend - pools[key].cost_mib
    unmet = min(slots, len(needed)) - starts.total()
    if unmet:
        return starts, unmet
    spend -= 0 if seen.memory is None else seen.memory.floor_mib
    for key in hoped[: slots - starts.total()]:
        if room == 0 or spend < pools[key].cost_mib:
            break
        starts[key] += 1
        room, spend = room - 1, spend - pools[key].cost_mib
    return starts, 0


def _spendable(memory: Memory | None) -> float:
    """Return the MiB that new instances may take."""
    if memory is None:
        return math.inf
    return -math.inf if memory.pressed else memory.available_mib - memory.floor_mib


def _overdue(seen: Seen, now: float, keep_idle: float) -> list[Reap]:
    """Return idle instances that nothing holds and whose time is up."""
    reaps: list[Reap] = []
    for key, pool in seen.pools.items():
        spare = pool.coldest()[: pool.spare(max(pool.target, pool.kept))]
        reaps.extend(
            Reap(key, instance)
            for instance in spare
            if pool.retiring or now - pool.idle_since[instance] >= keep_idle
        )
    return reaps


def _makers(seen: Seen, gone: set[tuple[str, str]]) -> list[Reap]:
    """Return the idle instances that may make room, the one that idled longest first."""
    spare = sorted(
        (pool.idle_since[instance], key, instance)
        for key, pool in seen.pools.items()
        if not pool.waiting
        for instance in pool.coldest()[: pool.spare(pool.kept)]
        if (key, instance) not in gone
    )
    return [Reap(key, instance) for _, key, instance in spare]


def _given_back(seen: Seen, makers: list[Reap], reaps: list[Reap]) -> list[Reap]:
    """Return what is to go because the host needs memory, beyond ``reaps``.

    What is ending already counts as given back; while programs wait for memory one more goes
    each time, so that the next look sees what it brought.
    """
    memory = seen.memory
    if memory is None:
        return []
    ending = sum(pool.ending * pool.cost_mib for pool in seen.pools.values())
    ending += sum(seen.pools[reap.pool].cost_mib for reap in reaps)
    lacking = memory.floor_mib - memory.available_mib - ending
    pressed: list[Reap] = []
    for maker in makers:
        if lacking <= 0 and not (memory.pressed and not ending and not pressed):
            break
        pressed.append(Reap(maker.pool, maker.instance, pressed=True))
        lacking -= seen.pools[maker.pool].cost_mib
    return pressed


def _dealt(wanted: Mapping[str, int]) -> list[str]:
    """Return the keys in rounds, each as often as it is wanted."""
    most = max(wanted.values(), default=0)
    return [key for turn in range(most) for key, count in wanted.items() if count > turn]
