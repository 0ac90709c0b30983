"""What becomes of a batch of a stream after each call: done, again, halved or given up. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from faas.mappings.shapes import Entry
from faas.model.mapping import EventSourceMapping

EXHAUSTED = "RetryAttemptsExhausted"
TOO_OLD = "RecordAgeExceeded"
FIRST_WAIT, LAST_WAIT = 0.5, 30.0
"""Seconds between tries of a batch: doubled from the first to the last."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that are to go into one call.

    Attributes:
        tries: Calls that ended in an error of the function.
        waits: Tries of any kind that came to nothing, in a row.
    """

    entries: tuple[Entry, ...]
    tries: int = 0
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next.

    Attributes:
        done: Entries that are over with.
        lost: A batch that is given up.
        condition: Why.
        again: Batches to try next, in order.
        wait: Seconds until then.
    """

    done: tuple[Entry, ...] = ()
    lost: Batch | None = None
    condition: str = ""
    again: tuple[Batch, ...] = ()
    wait: float = 0.0


def before(batch: Batch, mapping: EventSourceMapping, *, now: float) -> Step | None:
    """Return what to do when entries are too old for another call; None: call."""
    if mapping.max_age < 0:
        return None
    old = tuple(each for each in batch.entries if now - each.at > mapping.max_age)
    if not old:
        return None
    rest = batch.entries[len(old) :] if old == batch.entries[: len(old)] else ()
    again = (replace(batch, entries=rest),) if rest else ()
    return Step(lost=replace(batch, entries=old), condition=TOO_OLD, again=again)


def succeeded(batch: Batch, failed: Collection[str], mapping: EventSourceMapping) -> Step:
    """Return what to do after a call that named these ids as failed.

    All before the first of them is over with; the rest is tried again.
    """
    first = next((n for n, each in enumerate(batch.entries) if each.id in failed), None)
    if first is None:
        return Step(done=batch.entries)
    rest = _again(replace(batch, entries=batch.entries[first:]), mapping, split=False)
    return replace(rest, done=batch.entries[:first])


def failed(batch: Batch, mapping: EventSourceMapping) -> Step:
    """Return what to do after a call that ended in an error of the function."""
    return _again(batch, mapping, split=mapping.bisect)


def hindered(batch: Batch) -> Step:
    """Return what to do after a call that could not be made; such tries are not counted."""
    return Step(again=(replace(batch, waits=batch.waits + 1),), wait=_wait(batch.waits))


def _again(batch: Batch, mapping: EventSourceMapping, *, split: bool) -> Step:
    half = len(batch.entries) // 2
    if split and half:
        parts: Sequence[tuple[Entry, ...]] = (batch.entries[:half], batch.entries[half:])
        return Step(again=tuple(replace(batch, entries=part) for part in parts))
    tried = replace(batch, tries=batch.tries + 1, waits=batch.waits + 1)
    if 0 <= mapping.max_retries < tried.tries:
        return Step(lost=tried, condition=EXHAUSTED)
    return Step(again=(tried,), wait=_wait(batch.waits))


def _wait(waits: int) -> float:
    return float(min(FIRST_WAIT * 2 ** min(waits, 16), LAST_WAIT))
