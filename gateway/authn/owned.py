"""Which keys an app has, noted apart so that nobody reads every key to know a few."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from gateway import keys
from gateway.keys import BadRecord, Key, Prefix
from wherry.errors import WherryError
from wherry.store import Conflict, Store

MOST_LIVE = 2
"""Most keys of an app that are accepted at once in one environment: the one in use, and the one
that takes its place."""

FOLDER = "keysof/"
"""Where the Store keeps the notes; each app's is ``keysof/CONSUMER/APP``."""

_COMPLETE = "keysof-complete"
_KEPT_DEAD = 32
_MOST_OLD = 1000
_GRACE_NS = 60 * 10**9


class TooManyKeys(WherryError):
    """The app has its two live keys."""

    def __init__(self, consumer: str, app: str, live: Sequence[str]) -> None:
        shown = " and ".join(sorted(live))
        super().__init__(
            f"app {consumer}/{app}: {len(live)} live keys ({shown}), "
            f"expected at most {MOST_LIVE}; revoke one of them first"
        )
        self.consumer, self.app, self.live = consumer, app, tuple(live)


async def claim(store: Store, key: Key, *, now_ns: int) -> None:
    """Note ``key``, which is about to be written, as its app's.

    The note decides: of three that come at once, one is refused. A noted key that has no record
    counts for a minute, in which its maker may still write it.

    Raises:
        TooManyKeys: The app has `MOST_LIVE` in that environment.
        BadRecord: A note or a key is unreadable.
    """
    name = f"{FOLDER}{key.consumer}/{key.app}"
    while True:
        record = await store.get(name)
        if record is None:
            old = [each for each in await _unnoted(store) if _same_app(each, key)]
            noted = {each.prefix: each.created_ns for each in old[-_MOST_OLD:]}
        else:
            noted = _read(name, record.body)
        found = await _found(store, noted)
        live = [each for each in noted if _counts(key, found.get(each), noted[each], now_ns)]
        if len(live) >= MOST_LIVE:
            raise TooManyKeys(key.consumer, key.app, live)
        kept = _kept(noted, found, now_ns) | {key.prefix: key.created_ns}
        try:
            await store.put(
                name, json.dumps(kept).encode(), expect=record.revision if record else 0
            )
        except Conflict:
            continue
        return


async def keys_of(store: Store, consumer: str) -> Sequence[Key]:
    """Return the keys of ``consumer``, oldest first; of dead ones only the newest per app.

    Raises:
        BadRecord: A note or a key is unreadable.
    """
    notes = (await store.list(f"{FOLDER}{consumer}/")).values()
    prefixes = [prefix for note in notes for prefix in _read(note.key, note.body)]
    found = await _found(store, prefixes)
    found |= {key.prefix: key for key in await _unnoted(store) if key.consumer == consumer}
    return sorted(found.values(), key=_age)


def _counts(new: Key, key: Key | None, noted_ns: int, now_ns: int) -> bool:
    if key is None:
        return now_ns - noted_ns < _GRACE_NS
    return key.environment == new.environment and key.accepted_at(now_ns)


def _kept(noted: Mapping[Prefix, int], found: Mapping[Prefix, Key], now_ns: int) -> dict[str, int]:
    """Return the notes without those of nothing, and without all but the newest dead keys."""
    alive: dict[str, int] = {}
    dead: list[tuple[int, str]] = []
    for prefix, at in noted.items():
        key = found.get(prefix)
        if (now_ns - at < _GRACE_NS) if key is None else key.accepted_at(now_ns):
            alive[prefix] = at
        elif key is not None:
            dead.append((at, prefix))
    return {prefix: at for at, prefix in sorted(dead)[-_KEPT_DEAD:]} | alive


async def _found(store: Store, prefixes: Iterable[Prefix]) -> dict[Prefix, Key]:
    found = {}
    for prefix in prefixes:
        record = await store.get(keys.FOLDER + prefix)
        if record is not None:
            found[prefix] = Key.decode(record.key, record.body)
    return found


def _read(name: str, body: bytes) -> dict[Prefix, int]:
    try:
        return {Prefix(str(prefix)): int(at) for prefix, at in json.loads(body).items()}
    except (ValueError, TypeError, AttributeError):
        raise BadRecord(name) from None


async def _unnoted(store: Store) -> Sequence[Key]:
    """Return every key of a Store that has some of a version that made no notes, oldest first.

    A Store that had none when it was first asked is never looked through again.
    """
    if await store.get(_COMPLETE) is not None:
        return []
    records = (await store.list(keys.FOLDER)).values()
    if not records:
        await store.put(_COMPLETE, b"1")
    found = []
    for record in records:
        with suppress(BadRecord):
            found.append(Key.decode(record.key, record.body))
    return sorted(found, key=_age)


def _same_app(one: Key, other: Key) -> bool:
    return (one.consumer, one.app) == (other.consumer, other.app)


def _age(key: Key) -> tuple[int, str]:
    return key.created_ns, key.prefix
