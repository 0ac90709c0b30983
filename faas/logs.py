"""What functions print: a bounded ring of lines per function, oldest dropped first."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LINE = 8192
"""Most characters kept of one line."""
MAX_TAIL = 4096
"""Most bytes in the log tail of one invocation. Source: Lambda API, Invoke, ``LogResult``."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a function's log.

    Attributes:
        offset: Position in the function's log, from 1, without gaps.
        at_ns: Unix nanoseconds when the host received it.
        text: The line without its end.
    """

    offset: int
    at_ns: int
    text: str


class Ring:
    """The newest lines of one function.

    Full, it drops the oldest line and goes on: a function that prints without end costs at most
    ``lines`` lines of `MAX_LINE` characters.
    """

    def __init__(self, *, lines: int) -> None:
        self._lines: deque[Line] = deque(maxlen=lines)
        self._last = 0

    def append(self, text: str, *, at_ns: int) -> None:
        """Keep ``text``, cut to `MAX_LINE` characters."""
        self._last += 1
        self._lines.append(Line(self._last, at_ns, text[:MAX_LINE]))

    def after(self, offset: int, *, limit: int = 1000) -> Sequence[Line]:
        """Return at most ``limit`` kept lines whose offset is over ``offset``, oldest first."""
        newer = self._last - offset
        if newer <= 0 or not self._lines:
            return ()
        start = max(0, len(self._lines) - newer)
        return tuple(self._lines[i] for i in range(start, min(start + limit, len(self._lines))))


class Tail:
    """The last `MAX_TAIL` bytes of what one invocation logged."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0

    def append(self, text: str) -> None:
        """Add a line and drop from the front what no longer fits."""
        line = text[:MAX_LINE].encode() + b"\n"
        self._lines.append(line)
        self._size += len(line)
        while self._size - len(self._lines[0]) >= MAX_TAIL:
            self._size -= len(self._lines.popleft())

    def text(self) -> bytes:
        """Return the tail."""
        return b"".join(self._lines)[-MAX_TAIL:]
