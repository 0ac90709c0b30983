"""When keys were last used: noted without a wait, written to the Store at most once a minute."""

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Mapping

from gateway.keys import Prefix
from wherry.errors import WherryError
from wherry.store import Conflict, Store

logger = logging.getLogger(__name__)

FOLDER = "keyused/"
"""Where the Store keeps them; those of keys that begin with ``ab`` are ``keyused/ab``."""

EVERY = 60.0
"""Seconds between two writes."""

_SHARD = 2


class Uses:
    """Uses that are not written yet. At most one number per key is held.

    Args:
        store: Where they go; while it fails they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: dict[Prefix, int] = {}

    def note(self, prefix: Prefix, now_ns: int) -> None:
        """Remember that the key was used at ``now_ns`` (Unix)."""
        self._noted[prefix] = now_ns

    async def run(self) -> None:
        """Write what was noted every `EVERY` seconds, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted; what cannot be written now stays for the next time.

        A Store that fails is not asked again before that.
        """
        noted, self._noted = self._noted, {}
        by_shard: dict[str, dict[Prefix, int]] = defaultdict(dict)
        for prefix, at in noted.items():
            by_shard[prefix[:_SHARD]][prefix] = at
        try:
            for shard in list(by_shard):
                await _merge(self._store, FOLDER + shard, by_shard[shard])
                del by_shard[shard]
        except WherryError as error:
            logger.warning("uses of keys not written", extra={"cause": type(error).__name__})
        finally:
            for used in by_shard.values():
                for prefix, at in used.items():
                    self._noted.setdefault(prefix, at)


async def last_used(store: Store) -> Mapping[str, int]:
    """Return the Unix nanoseconds of each key's last written use, by prefix."""
    found: dict[str, int] = {}
    for record in (await store.list(FOLDER)).values():
        found |= _read(record.body)
    return found


async def _merge(store: Store, name: str, used: Mapping[Prefix, int]) -> None:
    while True:
        record = await store.get(name)
        merged = {} if record is None else _read(record.body)
        for prefix, at in used.items():
            merged[prefix] = max(at, merged.get(prefix, 0))
        try:
            revision = record.revision if record else 0
            await store.put(name, json.dumps(merged).encode(), expect=revision)
        except Conflict:
            continue
        return


def _read(body: bytes) -> dict[str, int]:
    """Read a record; one that is unreadable tells of no use, which costs a date in a list."""
    try:
        return {str(prefix): int(at) for prefix, at in json.loads(body).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
