"""Credit: what consumers have paid ahead or were given, and what it went to.

Each consumer has a log of entries; a balance is their sum. Entries are never changed: a mistake
is made good by another entry.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from wherry.errors import WherryError
from wherry.store import Store

LOG = "billing/credit/"
"""Beginning of the names of the logs; the consumer's name follows."""

_PAGE = 1000


class BadEntry(WherryError):
    """An entry of a ledger is unreadable."""

    def __init__(self, log: str, each: str) -> None:
        super().__init__(f"entry {each!r} of {log!r}: unreadable, expected an entry of a ledger")
        self.log, self.id = log, each


class IdTaken(WherryError):
    """Another entry has the id."""

    def __init__(self, each: str, found: str, expected: str) -> None:
        super().__init__(f"credit {each!r}: written with {found}, expected {expected} or a new id")
        self.id = each


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of a balance.

    Attributes:
        id: Idempotency key: the same entry again is not counted.
        at_ns: Unix nanoseconds when.
        currency: Of the amount.
        amount: In smallest units; below 0 takes away.
        reason: One sentence for people.
        by: Who made it: a token's name, or ``invoice`` and its month.
    """

    id: str
    at_ns: int
    currency: str
    amount: int
    reason: str
    by: str


_ENTRY = TypeAdapter(Entry)


class Ledger:
    """The credit of every consumer, in the Store.

    Args:
        store: Holds the logs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[int, Counter[str]]] = {}

    async def add(self, consumer: str, entry: Entry) -> bool:
        """Write ``entry``; return False when one with its id was written before."""
        return await self._store.append(LOG + consumer, [(entry.id, _ENTRY.dump_json(entry))]) == 1

    async def entries(self, consumer: str) -> list[Entry]:
        """Return every entry, oldest first.

        Raises:
            BadEntry: One is unreadable.
        """
        found: list[Entry] = []
        after, log = 0, LOG + consumer
        while events := await self._store.read(log, after, limit=_PAGE):
            found += (_decoded(log, event.id, event.body) for event in events)
            after = events[-1].offset
        return found

    async def balances(self, consumer: str) -> Mapping[str, int]:
        """Return what is left, in smallest units by currency; reads only what is new.

        Raises:
            BadEntry: An entry is unreadable.
        """
        log = LOG + consumer
        after, added = self._read.get(consumer, (0, Counter()))
        while events := await self._store.read(log, after, limit=_PAGE):
            added = Counter(added)
            for event in events:
                entry = _decoded(log, event.id, event.body)
                added[entry.currency] += entry.amount
            after = events[-1].offset
            self._read[consumer] = after, added
        return dict(added)


def _decoded(log: str, each: str, body: bytes) -> Entry:
    try:
        return _ENTRY.validate_json(body)
    except ValidationError:
        raise BadEntry(log, each) from None
