"""Desired state, counters, leases and logs: what every service shares and none owns."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wherry.errors import StartError, WherryError
from wherry.store.steps import Advance, Advanced, Held, Hold

MAX_BODY = 1 << 20
"""Most bytes in one record or event; larger values are files that a record names."""


class Conflict(WherryError):
    """A record changed since the writer read it."""

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"record {key!r}: found revision {found}, expected {expected}")
        self.key, self.expected, self.found = key, expected, found


class LeaseLost(WherryError):
    """Another holder has the lease."""

    def __init__(self, key: str) -> None:
        super().__init__(f"lease {key!r}: held by another, expected to be free or ours")
        self.key = key


class TooLarge(WherryError):
    """A value is over `MAX_BODY`."""

    def __init__(self, key: str, size: int) -> None:
        super().__init__(f"record {key!r}: {size} bytes, expected at most {MAX_BODY}")
        self.key, self.size = key, size


class StoreFailed(WherryError):
    """The store could not be read or written now.

    A file or a memory did nothing of the call; a server that was lost on the way may have done
    it.
    """

    def __init__(self, store: str | Path, cause: str) -> None:
        super().__init__(f"store {store}: {cause}, expected one that can be reached and written")
        self.store, self.cause = store, cause


class StoreClosed(WherryError):
    """The store was used after its end."""

    def __init__(self, store: str | Path) -> None:
        super().__init__(f"store {store}: closed, expected to be open")
        self.store = store


@dataclass(frozen=True, slots=True)
class Record:
    """A stored value and the revision that wrote it.

    Attributes:
        key: Slash-separated path (``apikey/ab12``).
        revision: Grows with each write to the store; 0 stands for an absent record.
        body: At most `MAX_BODY` bytes.
    """

    key: str
    revision: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a log.

    Attributes:
        offset: Position in its log, from 1, without promise of being gapless.
        id: Idempotency key; the log holds each id once.
        body: At most `MAX_BODY` bytes.
    """

    offset: int
    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on a name that ends by itself.

    Attributes:
        key: What is claimed.
        holder: Who claims it.
        expires_ns: Unix nanoseconds when the claim ends.
    """

    key: str
    holder: str
    expires_ns: int


View = Mapping[str, Record]


class Store(Protocol):
    """Linearizable records with optimistic writes and level-triggered watches.

    One contract suite (``tests/contract/test_store.py``) holds every implementation to these
    promises.
    """

    async def get(self, key: str) -> Record | None:
        """Return the record, or None when absent."""
        ...

    async def list(self, prefix: str) -> View:
        """Return every record whose key starts with ``prefix``."""
        ...

    async def put(self, key: str, body: bytes, *, expect: int | None = None) -> Record:
        """Write ``body``; with ``expect``, only if the record is at that revision (0: absent).

        Raises:
            Conflict: The record is at another revision.
            TooLarge: The body is over `MAX_BODY`.
        """
        ...

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """Remove the record; return whether there was one.

        Raises:
            Conflict: The record is at another revision than ``expect``.
        """
        ...

    def watch(self, prefix: str) -> AsyncIterator[View]:
        """Yield the whole view under ``prefix`` now and after each change.

        A slow reader skips intermediate views and always gets the newest.
        """
        ...

    async def add(self, counter: str, n: int) -> int:
        """Add ``n`` (may be negative) to a counter that starts at 0; return the new value."""
        ...

    async def advance(
        self, level: str, n: int, *, floor: int | None, most: int | None, seconds: float
    ) -> Advanced:
        """Take one step of a level; see `Advance`.

        Raises:
            ValueError: The level would not fit in 64 bits.
        """
        ...

    async def advance_all(self, steps: Sequence[Advance]) -> Sequence[Advanced]:
        """Take steps in their order, each by itself, at the price of one.

        Args:
            steps: At most `bounds.MAX_STEPS`.

        Raises:
            ValueError: As `advance`; the steps before it may have been taken.
        """
        ...

    async def hold(
        self, name: str, holder: str, amount: int, *, most: int | None, seconds: float
    ) -> Held:
        """Claim, renew or give back a share; see `Hold`."""
        ...

    async def hold_all(self, claims: Sequence[Hold]) -> Sequence[Held]:
        """Make claims in their order, each by itself, at the price of one.

        Args:
            claims: At most `bounds.MAX_STEPS`.
        """
        ...

    async def lease(self, key: str, holder: str, *, seconds: float) -> Lease:
        """Claim ``key`` for ``seconds`` (> 0) from now, or extend the claim of the same holder.

        Raises:
            LeaseLost: Another holder's claim has not ended.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """End the claim if it is still this holder's; otherwise do nothing."""
        ...

    async def append(self, log: str, events: Sequence[tuple[str, bytes]]) -> int:
        """Append ``(id, body)`` pairs durably and as one; an id already in the log is skipped.

        Returns:
            How many were new.
        """
        ...

    async def read(self, log: str, after: int = 0, *, limit: int = 1000) -> Sequence[Event]:
        """Return at most ``limit`` events whose offset is over ``after``, oldest first."""
        ...

    async def trim(self, log: str, before: int, *, forget: int = 0) -> int:
        """Remove the oldest events; their ids stay known, and are skipped by `append`.

        Args:
            log: Of which.
            before: Offset of the first event that stays.
            forget: Removed events whose offset is under this lose their ids, too: the same id
                is new again.

        Returns:
            How many events and ids were removed, at most `bounds.MAX_TRIMMED` of each; 0 when
            nothing is left to remove.
        """
        ...


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Open the store named by ``url``; close it at the end.

    Args:
        url: ``memory:``, ``sqlite:PATH``, ``redis://HOST:PORT/DB``, the same with ``rediss:``
            for TLS, ``unix:PATH`` for a Redis on a socket, or
            ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``.

    Raises:
        StartError: The URL names no store that this version has.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "memory":
            from wherry.store.memory import MemoryStore  # noqa: PLC0415

            yield MemoryStore()
        case "sqlite":
            from wherry.store.sqlite import SqliteStore  # noqa: PLC0415

            async with SqliteStore.open(Path(rest)) as store:
                yield store
        case "redis" | "rediss" | "unix" | "redis+sentinel":
            from wherry.store.redis import RedisStore  # noqa: PLC0415

            async with RedisStore.open(url) as shared:
                yield shared
        case _:
            raise StartError(
                f"store {scheme!r}: unknown scheme, expected memory:, sqlite:PATH or redis://HOST"
            )
