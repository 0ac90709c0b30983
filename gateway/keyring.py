"""Keys in the Store: made, revoked and listed there, and followed so that changes count."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from gateway import keys
from gateway.keys import BadRecord, Key, Prefix
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Conflict, Record, Store

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_NOBODY = bytes(32)


class UnknownKey(WherryError):
    """No key has that prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"key {prefix!r}: not found, expected a prefix that `key list` shows")
        self.prefix = prefix


async def create(
    store: Store, pepper: bytes, consumer: str, *, now_ns: int, expires_ns: int | None = None
) -> tuple[Key, str]:
    """Make a key for ``consumer`` and return its record and its text, which is kept nowhere.

    Args:
        store: Where the record goes.
        pepper: See `gateway.pepper`.
        consumer: Name of a Consumer; one that is not configured yet may get keys too.
        now_ns: Unix nanoseconds now.
        expires_ns: Unix nanoseconds when it stops being accepted; None is never.
    """
    while True:
        prefix, text = keys.minted()
        key = Key(prefix, consumer, keys.digest(pepper, text), now_ns, expires_ns)
        try:
            await store.put(keys.FOLDER + prefix, key.encode(), expect=0)
        except Conflict:
            continue
        return key, text


async def revoke(store: Store, prefix: str, *, now_ns: int) -> Key:
    """Stop accepting a key; its record stays for the list. Revoking again changes nothing.

    Raises:
        UnknownKey: There is no such key.
    """
    while True:
        record = await store.get(keys.FOLDER + prefix)
        if record is None:
            raise UnknownKey(prefix)
        key = Key.decode(record.key, record.body)
        if key.revoked_ns is not None:
            return key
        revoked = Key(key.prefix, key.consumer, key.digest, key.created_ns, key.expires_ns, now_ns)
        try:
            await store.put(record.key, revoked.encode(), expect=record.revision)
        except Conflict:
            continue
        return revoked


async def listed(store: Store) -> Sequence[Key]:
    """Return every key, oldest first.

    Raises:
        BadRecord: A record is unreadable.
    """
    records = (await store.list(keys.FOLDER)).values()
    found = [Key.decode(record.key, record.body) for record in records]
    return sorted(found, key=lambda key: (key.created_ns, key.prefix))


class Keyring:
    """The keys as they stand in the Store now.

    Attributes:
        loaded: Set once the keys were read for the first time.
    """

    def __init__(self, store: Store, pepper: bytes, clock: Clock) -> None:
        self._store, self._pepper, self._clock = store, pepper, clock
        self._keys: dict[Prefix, Key] = {}
        self._revisions: dict[str, int] = {}
        self.loaded = asyncio.Event()

    def owner(self, text: str) -> Key | None:
        """Return the accepted key that ``text`` is; None for any other text, whatever is wrong."""
        prefix = keys.prefix_of(text)
        if prefix is None:
            return None
        key = self._keys.get(prefix)
        digest = keys.digest(self._pepper, text)
        if not keys.same(digest, key.digest if key else _NOBODY) or key is None:
            return None
        return key if key.accepted_at(self._clock.unix_ns()) else None

    async def follow(self) -> None:
        """Keep up with the Store until cancelled; while it fails, the keys last read count."""
        while True:
            try:
                async for view in self._store.watch(keys.FOLDER):
                    self.take(view.values())
                    self.loaded.set()
            except WherryError:
                logger.exception("keys cannot be followed")
            await asyncio.sleep(_RETRY_SECONDS)

    def take(self, records: Iterable[Record]) -> None:
        """Make ``records`` the known keys; an unreadable one is logged and left out."""
        held, self._keys = self._keys, {}
        seen, self._revisions = self._revisions, {}
        for record in records:
            prefix = Prefix(record.key.removeprefix(keys.FOLDER))
            self._revisions[record.key] = record.revision
            if seen.get(record.key) == record.revision:
                if prefix in held:
                    self._keys[prefix] = held[prefix]
                continue
            try:
                key = Key.decode(record.key, record.body)
            except BadRecord:
                logger.warning("key record unreadable", extra={"record": record.key})
                continue
            self._keys[prefix] = key
