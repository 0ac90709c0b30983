"""How old the events of the usage log are: on which day the log had come how far."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import dropwhile

from wherry.store import Store

MARKS = "usage/marks"
"""The record of them."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Days and offsets, both rising.

    Attributes:
        days: Days since the epoch, each with the last offset that was rolled up on it.
        revision: Of the record in the Store.
    """

    days: tuple[tuple[int, int], ...] = ()
    revision: int = 0

    def noted(self, day: int, offset: int) -> "Marks":
        """Return them with ``offset``, if it is the first of ``day``.

        Days that are yet to come were noted by a clock that was wrong; they count as ``day``.
        """
        past = tuple(mark for mark in self.days if mark[0] <= day)
        if len(past) < len(self.days):
            past = (*(mark for mark in past if mark[0] < day), (day, self.days[-1][1]))
        if past and past[-1][0] == day:
            return replace(self, days=past)
        return replace(self, days=(*past, (day, offset)))

    def through(self, day: int) -> int:
        """Return the last offset that was noted before ``day``; 0 when none was."""
        return max((offset for each, offset in self.days if each < day), default=0)

    def since(self, day: int) -> "Marks":
        """Return them without those that say no more than the last one before ``day`` does."""
        last = max((each for each, _ in self.days if each < day), default=day)
        return replace(self, days=tuple(dropwhile(lambda mark: mark[0] < last, self.days)))

    def written(self) -> bytes:
        """Return the record's body."""
        return json.dumps(self.days).encode()

    @classmethod
    async def of(cls, store: Store) -> "Marks":
        """Read them."""
        record = await store.get(MARKS)
        if record is None:
            return cls()
        days: Iterable[tuple[int, int]] = json.loads(record.body)
        return cls(tuple((day, offset) for day, offset in days), record.revision)
