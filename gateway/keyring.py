"""Keys in the Store: made, rotated, revoked and listed there, and followed so they count."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway import keys
from gateway.authn import owned
from gateway.authn.uses import Uses
from gateway.keys import DEFAULT_APP, BadRecord, Key, Prefix
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Conflict, Record, Store, View
from wherry.store.follow import follow

logger = logging.getLogger(__name__)

_NOBODY = bytes(32)


class UnknownKey(WherryError):
    """No key has that prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"key {prefix!r}: not found, expected a prefix that `key list` shows")
        self.prefix = prefix


class DeadKey(WherryError):
    """A key that is revoked or expired cannot be rotated."""

    def __init__(self, prefix: str, state: str) -> None:
        super().__init__(f"key {prefix!r}: {state}, expected a live one; make a new key instead")
        self.prefix, self.state = prefix, state


@dataclass(frozen=True, slots=True)
class Grant:
    """What a new key is for.

    Attributes:
        app: Of the consumer.
        scopes: What it is granted; None is everything that the app may have.
        environment: The only one it counts in; None is every one.
        title: Whatever its owner calls it.
        expires_ns: Unix nanoseconds when it stops being accepted; None is never.
    """

    app: str = DEFAULT_APP
    scopes: frozenset[str] | None = None
    environment: str | None = None
    title: str = ""
    expires_ns: int | None = None


async def create(
    store: Store,
    pepper: bytes,
    consumer: str,
    *,
    now_ns: int,
    expires_ns: int | None = None,
    grant: Grant | None = None,
) -> tuple[Key, str]:
    """Make a key for ``consumer`` and return its record and its text, which is kept nowhere.

    Args:
        store: Where the record goes.
        pepper: See `gateway.pepper`.
        consumer: Name of a Consumer; one that is not configured yet may get keys too.
        now_ns: Unix nanoseconds now.
        expires_ns: Unix nanoseconds when it stops being accepted; None is as ``grant`` says.
        grant: What it is for; None is everything in the default app.

    Raises:
        TooManyKeys: The app has two live keys in that environment.
    """
    for_what = grant or Grant()
    while True:
        prefix, text = keys.minted()
        key = Key(
            prefix,
            consumer,
            keys.digest(pepper, text),
            now_ns,
            for_what.expires_ns if expires_ns is None else expires_ns,
            app=for_what.app,
            scopes=for_what.scopes,
            environment=for_what.environment,
            title=for_what.title,
        )
        await owned.claim(store, key, now_ns=now_ns)
        try:
            await store.put(keys.FOLDER + prefix, key.encode(), expect=0)
        except Conflict:
            continue
        return key, text


async def rotate(
    store: Store, pepper: bytes, prefix: str, *, now_ns: int, ends_ns: int | None = None
) -> tuple[Key, str]:
    """Make the key that takes the place of ``prefix``; both are accepted until the old one ends.

    The new key is for the same as the old one, and lasts as long as the old one was made to.

    Args:
        store: Where the records are.
        pepper: See `gateway.pepper`.
        prefix: The old key.
        now_ns: Unix nanoseconds now.
        ends_ns: Unix nanoseconds when the old one stops being accepted; None leaves that as it
            is. It never lasts longer than it did.

    Raises:
        UnknownKey: There is no such key.
        DeadKey: It is not accepted any more.
        TooManyKeys: The old key is not the app's only one.
    """
    old = await found(store, prefix)
    if not old.accepted_at(now_ns):
        raise DeadKey(prefix, old.state_at(now_ns))
    lasts = None if old.expires_ns is None else now_ns + old.expires_ns - old.created_ns
    grant = Grant(old.app, old.scopes, old.environment, old.title, lasts)
    made = await create(store, pepper, old.consumer, now_ns=now_ns, grant=grant)
    if ends_ns is not None:
        await _end(store, prefix, expires_ns=ends_ns)
    return made


async def revoke(store: Store, prefix: str, *, now_ns: int) -> Key:
    """Stop accepting a key; its record stays for the list. Revoking again changes nothing.

    Raises:
        UnknownKey: There is no such key.
    """
    return await _end(store, prefix, revoked_ns=now_ns)


async def found(store: Store, prefix: str) -> Key:
    """Return the key ``prefix``, in whatever state.

    Raises:
        UnknownKey: There is no such key.
        BadRecord: Its record is unreadable.
    """
    return (await _record(store, prefix))[1]


async def listed(store: Store) -> Sequence[Key]:
    """Return every key, oldest first.

    Raises:
        BadRecord: A record is unreadable.
    """
    records = (await store.list(keys.FOLDER)).values()
    every = [Key.decode(record.key, record.body) for record in records]
    return sorted(every, key=lambda key: (key.created_ns, key.prefix))


async def _end(
    store: Store, prefix: str, *, expires_ns: int | None = None, revoked_ns: int | None = None
) -> Key:
    """Give a key an end, unless it has an earlier one."""
    while True:
        record, key = await _record(store, prefix)
        if key.revoked_ns is not None:
            return key
        if expires_ns is not None and (key.expires_ns is None or expires_ns < key.expires_ns):
            ended = replace(key, expires_ns=expires_ns)
        elif revoked_ns is not None:
            ended = replace(key, revoked_ns=revoked_ns)
        else:
            return key
        try:
            await store.put(record.key, ended.encode(), expect=record.revision)
        except Conflict:
            continue
        return ended


async def _record(store: Store, prefix: str) -> tuple[Record, Key]:
    record = await store.get(keys.FOLDER + prefix)
    if record is None:
        raise UnknownKey(prefix)
    return record, Key.decode(record.key, record.body)


Verdict = Literal["unknown", "revoked", "expired", "active"]
"""What a text is, as a key; only its owner is ever told apart from ``unknown``."""


class Keyring:
    """The keys as they stand in the Store now.

    Attributes:
        loaded: Set once the keys were read for the first time.
        uses: When they were last used.
        store: Where they are kept.
    """

    def __init__(self, store: Store, pepper: bytes, clock: Clock) -> None:
        self.store, self.uses = store, Uses(store)
        self._pepper, self._clock = pepper, clock
        self._digester = keys.Digester(pepper)
        self._keys: dict[Prefix, Key] = {}
        self._revisions: dict[str, int] = {}
        self.loaded = asyncio.Event()

    def owner(self, text: str) -> Key | None:
        """Return the accepted key that ``text`` is; None for any other text, whatever is wrong."""
        key = self._proven(text)
        return None if key is None else self._in_use(key)

    def verdict(self, text: str) -> Verdict:
        """Return what ``text`` is as a key, for owners who ask to be told."""
        key = self._proven(text)
        return "unknown" if key is None else key.state_at(self._clock.unix_ns())

    def live(self, prefix: str) -> Key | None:
        """Return the accepted key of that prefix, for one who proved otherwise to have it."""
        key = self._keys.get(Prefix(prefix))
        return None if key is None else self._in_use(key)

    def signing_secret(self, prefix: str) -> bytes:
        """Return the secret with which requests of a key are signed, of any prefix."""
        return keys.signing_secret(self._pepper, Prefix(prefix)).encode()

    async def follow(self) -> None:
        """Keep up with the Store until cancelled; while it fails, the keys last read count."""
        await follow(self.store, keys.FOLDER, self._look, what="keys")

    async def _look(self, view: View) -> None:
        self._keys, self._revisions = await asyncio.to_thread(
            _taken, view.values(), self._keys, self._revisions
        )
        self.loaded.set()

    def take(self, records: Iterable[Record]) -> None:
        """Make ``records`` the known keys; an unreadable one is logged and left out."""
        self._keys, self._revisions = _taken(records, self._keys, self._revisions)

    def _proven(self, text: str) -> Key | None:
        prefix = keys.prefix_of(text)
        if prefix is None:
            return None
        key = self._keys.get(prefix)
        digest = self._digester.digest(text)
        if not keys.same(digest, key.digest if key else _NOBODY):
            return None
        return key

    def _in_use(self, key: Key) -> Key | None:
        now_ns = self._clock.unix_ns()
        if not key.accepted_at(now_ns):
            return None
        self.uses.note(key.prefix, now_ns)
        return key


def _taken(
    records: Iterable[Record], held: Mapping[Prefix, Key], revisions: Mapping[str, int]
) -> tuple[dict[Prefix, Key], dict[str, int]]:
    """Return the keys and the revisions of ``records``; only those that changed are decoded."""
    found = {record.key: record for record in records}
    now = {key: record.revision for key, record in found.items()}
    taken = dict(held)
    for key in revisions.keys() - now.keys():
        taken.pop(_prefix(key), None)
    for key, _ in now.items() - revisions.items():
        try:
            taken[_prefix(key)] = Key.decode(key, found[key].body)
        except BadRecord:
            taken.pop(_prefix(key), None)
            logger.warning("key record unreadable", extra={"record": key})
    return taken, now


def _prefix(key: str) -> Prefix:
    return Prefix(key.removeprefix(keys.FOLDER))
