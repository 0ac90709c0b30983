"""Resources that live for a time: when they are to be renewed, and how."""

from xds.snapshot import NONE, Snapshot, version_of
from xds.subscription import Batch, Subscription

BEATS_PER_LIFE = 3
"""How many times within its life a resource is renewed."""


def note(sub: Subscription, batch: Batch, now: float) -> None:
    """Note when what ``batch`` sends has to be renewed."""
    for name in batch.removed:
        sub.beats.pop(name, None)
    for name in batch.changed if not batch.beats else batch.beats:
        ttl = batch.target[name].ttl
        if ttl is None:
            sub.beats.pop(name, None)
        else:
            sub.beats[name] = now + ttl / BEATS_PER_LIFE


def renewal(sub: Subscription, goal: Snapshot, now: float, *, whole: bool) -> Batch | None:
    """Return the response that renews what is about to end.

    With ``whole`` it says again what the resources are, without it only that they live.
    """
    beats = tuple(sorted(name for name, at in sub.beats.items() if at <= now))
    beats = tuple(name for name in beats if name in sub.held and name not in sub.doubt)
    if not beats:
        sub.beats = {n: at for n, at in sub.beats.items() if at > now and n in sub.held}
        return None
    held = sub.held
    changed = {name: held[name] for name in beats} if whole else NONE
    version = sub.settled or version_of(held.values())
    return Batch(
        sub.type_url,
        version,
        held,
        changed,
        (),
        (),
        () if whole else beats,
        sub.wanted,
        sub.settled,
        sub.reached,
        sub.base or goal,
    )
