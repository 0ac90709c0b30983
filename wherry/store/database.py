"""The blocking half of the SQLite store: one connection, used by one thread.

Every write is one ``BEGIN IMMEDIATE`` transaction, so processes take turns; with
``synchronous=FULL`` a returned write has reached the disk.

Source: https://www.sqlite.org/wal.html and https://www.sqlite.org/pragma.html
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from wherry.errors import StartError
from wherry.store import Conflict, Event, Lease, LeaseLost, Record, View, bounds, levels
from wherry.store.steps import Advance, Advanced, Held, Hold

SCHEMA_VERSION = 3
"""Of the tables, kept in ``PRAGMA user_version``."""

_BUSY_SECONDS = 5.0
_SCHEMA = """
CREATE TABLE records (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
INSERT INTO clock VALUES (1, 0);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (key TEXT PRIMARY KEY, holder TEXT NOT NULL, expires_ns INTEGER NOT NULL);
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    log TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
    UNIQUE (log, id)
);
CREATE INDEX events_in_order ON events (log, position);
"""
_TRIMS = """
CREATE TABLE trims (log TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""
_MADE_BY = {1: _SCHEMA, 2: levels.SCHEMA, 3: _TRIMS}


class Database:
    """One open file; see `wherry.store.Store` for what each verb promises.

    Raises:
        StartError: The file cannot be opened, is no store, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"store {path}: {error}, expected a writable file") from None
        try:
            self._prepare(path)
        except BaseException:
            self._db.close()
            raise
        self._seen = -1
        self._revision = 0

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def revision(self) -> int:
        """Return the revision of the newest write to any record, by any process.

        ``data_version`` moves only when another connection commits, and costs no page read.
        """
        (seen,) = self._db.execute("PRAGMA data_version").fetchone()
        if seen != self._seen:
            (self._revision,) = self._db.execute("SELECT revision FROM clock").fetchone()
            self._seen = seen
        return self._revision

    def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        row = self._db.execute("SELECT key, revision, body FROM records WHERE key = ?", (key,))
        found = row.fetchone()
        return Record(*found) if found else None

    def list(self, prefix: str) -> View:
        """See `Store.list`."""
        query = "SELECT key, revision, body FROM records WHERE key >= ?"
        after = _after(prefix)
        rows = (
            self._db.execute(query + " ORDER BY key", (prefix,))
            if after is None
            else self._db.execute(query + " AND key < ? ORDER BY key", (prefix, after))
        )
        return MappingProxyType({row[0]: Record(*row) for row in rows})

    def put(self, key: str, body: bytes, expect: int | None) -> Record:
        """See `Store.put`."""
        bounds.named(key)
        bounds.sized([(key, body)])
        with self._writing():
            self._compare(key, expect)
            record = Record(key, self._tick(), bytes(body))
            self._db.execute(
                "INSERT INTO records VALUES (?1, ?2, ?3) "
                "ON CONFLICT (key) DO UPDATE SET revision = ?2, body = ?3",
                (record.key, record.revision, record.body),
            )
        self._revision = record.revision
        return record

    def delete(self, key: str, expect: int | None) -> bool:
        """See `Store.delete`."""
        with self._writing():
            self._compare(key, expect)
            if not self._db.execute("DELETE FROM records WHERE key = ?", (key,)).rowcount:
                return False
            revision = self._tick()
        self._revision = revision
        return True

    def add(self, counter: str, n: int) -> int:
        """See `Store.add`."""
        bounds.named(counter)
        with self._writing():
            row = self._db.execute("SELECT value FROM counters WHERE name = ?", (counter,))
            total = bounds.counted(counter, (row.fetchone() or (0,))[0] + n)
            self._db.execute(
                "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
                (counter, total),
            )
        return total

    def lease(self, key: str, holder: str, seconds: float, now_ns: int) -> Lease:
        """See `Store.lease`."""
        bounds.named(key, holder)
        lease = Lease(key, holder, now_ns + bounds.lasting(key, seconds))
        with self._writing():
            row = self._db.execute("SELECT holder, expires_ns FROM leases WHERE key = ?", (key,))
            held_by, until = row.fetchone() or (holder, 0)
            if held_by != holder and until > now_ns:
                raise LeaseLost(key)
            self._db.execute(
                "INSERT INTO leases VALUES (?1, ?2, ?3) "
                "ON CONFLICT (key) DO UPDATE SET holder = ?2, expires_ns = ?3",
                (key, holder, lease.expires_ns),
            )
        return lease

    def release(self, lease: Lease) -> None:
        """See `Store.release`."""
        with self._writing():
            self._db.execute(
                "DELETE FROM leases WHERE key = ? AND holder = ?", (lease.key, lease.holder)
            )

    def advance(self, steps: Sequence[Advance], now_ns: int) -> Sequence[Advanced]:
        """See `Store.advance_all`."""
        bounds.stepped(steps)
        with self._writing():
            return levels.advance(self._db, steps, now_ns)

    def hold(self, claims: Sequence[Hold], now_ns: int) -> Sequence[Held]:
        """See `Store.hold_all`."""
        bounds.claimed(claims)
        with self._writing():
            return levels.hold(self._db, claims, now_ns)

    def append(self, log: str, events: Sequence[tuple[str, bytes]]) -> int:
        """See `Store.append`."""
        bounds.named(log, *(each for each, _ in events))
        bounds.sized(events)
        if not events:
            return 0
        with self._writing():
            return self._db.executemany(
                "INSERT INTO events (log, id, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(log, each, bytes(body)) for each, body in events],
            ).rowcount

    def read(self, log: str, after: int, limit: int) -> Sequence[Event]:
        """See `Store.read`."""
        rows = self._db.execute(
            "SELECT position, id, body FROM events WHERE log = ? AND position > ? "
            "ORDER BY position LIMIT ?",
            (log, max(after, self._trimmed(log)), bounds.paged(limit)),
        )
        return [Event(*row) for row in rows]

    def trim(self, log: str, before: int, forget: int) -> int:
        """See `Store.trim`; a removed event keeps its row, without its body, for its id."""
        bounds.named(log)
        with self._writing():
            first = self._trimmed(log)
            events = self._oldest(log, first, before)
            last = events[-1] if events else first
            self._db.execute(
                "UPDATE events SET body = x'' WHERE log = ? AND position > ? AND position <= ?",
                (log, first, last),
            )
            self._db.execute(
                "INSERT INTO trims VALUES (?1, ?2) ON CONFLICT (log) DO UPDATE SET position = ?2",
                (log, last),
            )
            ids = self._oldest(log, 0, min(forget, last + 1))
            if ids:
                self._db.execute(
                    "DELETE FROM events WHERE log = ? AND position <= ?", (log, ids[-1])
                )
        return len(events) + len(ids)

    def _trimmed(self, log: str) -> int:
        """Return the position up to which events are removed."""
        row = self._db.execute("SELECT position FROM trims WHERE log = ?", (log,)).fetchone()
        return row[0] if row else 0

    def _oldest(self, log: str, after: int, before: int) -> Sequence[int]:
        rows = self._db.execute(
            "SELECT position FROM events WHERE log = ? AND position > ? AND position < ? "
            "ORDER BY position LIMIT ?",
            (log, after, before, bounds.MAX_TRIMMED),
        )
        return [position for (position,) in rows]

    def _prepare(self, path: Path) -> None:
        try:
            self._enter_wal()
            self._db.execute("PRAGMA synchronous = FULL")
            with self._writing():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                for step in range(version + 1, SCHEMA_VERSION + 1):
                    for statement in _MADE_BY[step].split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {step}")
        except sqlite3.Error as error:
            raise StartError(
                f"store {path}: {error}, expected a Wherry store; name another file"
            ) from None
        if version > SCHEMA_VERSION:
            raise StartError(
                f"store {path}: schema version {version}, expected {SCHEMA_VERSION}; "
                "use the version of Wherry that wrote it"
            )

    def _enter_wal(self) -> None:
        # SQLite does not apply the busy timeout to this change, so two processes that make
        # the same new file at once have to ask again.
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                if mode != "wal":
                    raise sqlite3.OperationalError(f"journal mode {mode} instead of wal")
                return

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _tick(self) -> int:
        query = "UPDATE clock SET revision = revision + 1 RETURNING revision"
        revision: int = self._db.execute(query).fetchone()[0]
        return revision

    def _compare(self, key: str, expect: int | None) -> None:
        if expect is None:
            return
        row = self._db.execute("SELECT revision FROM records WHERE key = ?", (key,)).fetchone()
        found = row[0] if row else 0
        if expect != found:
            raise Conflict(key, expect, found)


def _after(prefix: str) -> str | None:
    """Return the first text behind all that start with ``prefix``; None if there is none."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if last <= 0x10FFFF:  # noqa: PLR2004
            return prefix[:-1] + chr(0xE000 if last == 0xD800 else last)  # noqa: PLR2004
        prefix = prefix[:-1]
    return None
