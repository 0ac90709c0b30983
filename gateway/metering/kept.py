"""Records of usage that wait for the Store, and the batches that they are made of."""

import secrets
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Held(NamedTuple):
    """A record on its way to the Store.

    Attributes:
        id: Under which the log holds it once.
        body: A batch of uses.
    """

    id: str
    body: bytes


class Kept(Protocol):
    """Where records wait for the Store: `gateway.metering.journal.Journal` or `Memory`.

    Attributes:
        size: Bytes that records take which were not `sent`.
        number: Of the next record.
    """

    size: int
    number: int

    def write(self, bodies: Sequence[bytes]) -> None:
        """Append records; they are kept when this returns.

        Raises:
            OSError: They are not; the next write must begin with the very same bodies.
        """
        ...

    def waiting(self, most_bytes: int) -> list[Held]:
        """Return the oldest records that were not `sent`, up to ``most_bytes``, at least one."""
        ...

    def sent(self, count: int) -> None:
        """Forget the ``count`` oldest records: the Store has them."""
        ...

    def close(self) -> None:
        """End."""
        ...


class Memory:
    """Records that a killed process forgets."""

    def __init__(self) -> None:
        self._boot, self.number = secrets.token_hex(8), 0
        self._held: deque[Held] = deque()
        self.size = 0

    def write(self, bodies: Sequence[bytes]) -> None:
        """See `Kept.write`."""
        for body in bodies:
            self._held.append(Held(f"{self._boot}-{self.number:x}", body))
            self.number += 1
            self.size += len(body)

    def waiting(self, most_bytes: int) -> list[Held]:
        """See `Kept.waiting`."""
        found: list[Held] = []
        for held in self._held:
            most_bytes -= len(held.body)
            if found and most_bytes < 0:
                break
            found.append(held)
        return found

    def sent(self, count: int) -> None:
        """See `Kept.sent`."""
        for _ in range(count):
            self.size -= len(self._held.popleft().body)

    def close(self) -> None:
        """See `Kept.close`."""


class Batch(NamedTuple):
    """Calls that are written together, as often as that takes.

    Attributes:
        calls: How many.
        bodies: Of records.
        number: The first one's.
    """

    calls: int
    bodies: list[bytes]
    number: int

    def write(self, kept: Kept) -> None:
        """Write it unless that is done, although nobody waited for the answer."""
        if kept.number == self.number:
            kept.write(self.bodies)
