"""What functions print: a bounded ring of lines per function, oldest dropped first. Pure."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

MAX_LINE = 8192
"""Most characters kept of one line."""
MAX_TAIL = 4096
"""Most bytes in the log tail of one invocation. Source: Lambda API, Invoke, ``LogResult``."""
MAX_RING = 1 << 20
"""Most characters kept in memory of one function's log."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a function's log.

    Attributes:
        offset: Position in the function's log, from 1; grows by 1, and by more only where a
            service that was killed may have lost lines.
        at_ns: Unix nanoseconds when the host received it.
        text: The line without its end.
    """

    offset: int
    at_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a function may print.

    Attributes:
        lines: Lines a second, on average.
        characters: Characters a second, on average.
        burst: Seconds' worth that may come at once.
    """

    lines: int = 2000
    characters: int = 1 << 20
    burst: float = 5.0

    def __str__(self) -> str:
        return f"{self.lines} lines or {self.characters} characters a second"


class Ring:
    """The newest lines of one function.

    Full, it drops the oldest line and goes on. What a function prints faster than `Rate` is
    dropped and counted; a line in the log says how much. A function that prints without end costs
    at most ``lines`` lines and `MAX_RING` characters here, and little time.

    Args:
        lines: Most lines kept.
        kept: What was kept earlier, oldest first.
        after: The offset after which new lines go on.
        written: Takes each line as it is kept; must not block.
        rate: How much the function may print.
    """

    def __init__(
        self,
        *,
        lines: int,
        kept: Iterable[Line] = (),
        after: int = 0,
        written: Callable[[Line], None] | None = None,
        rate: Rate | None = None,
    ) -> None:
        self._lines: deque[Line] = deque()
        self._most = lines
        self._size = 0
        self._last = after
        self._written = written
        self._limit = _Limit(rate or Rate())
        for line in kept:
            self._keep(line)

    @property
    def last(self) -> int:
        """The newest line's offset; 0 before the first."""
        return self._last

    @property
    def dropped(self) -> int:
        """How many lines came too fast, ever."""
        return self._limit.dropped

    def append(self, text: str, *, at_ns: int) -> bool:
        """Keep a line of the function's, cut to `MAX_LINE`; return False when it came too fast."""
        text = text[:MAX_LINE]
        if not self._limit.admits(len(text), at_ns):
            return False
        self._confess(at_ns)
        self._add(text, at_ns)
        return True

    def note(self, text: str, *, at_ns: int) -> None:
        """Keep a line of the platform's, however fast lines come."""
        self._confess(at_ns)
        self._add(text[:MAX_LINE], at_ns)

    def after(self, offset: int, *, limit: int = 1000) -> Sequence[Line]:
        """Return at most ``limit`` kept lines whose offset is over ``offset``, oldest first."""
        if offset >= self._last:
            return ()
        start = bisect_right(self._lines, offset, key=attrgetter("offset"))
        return tuple(islice(self._lines, start, start + limit))

    def _confess(self, at_ns: int) -> None:
        lines, characters = self._limit.unsaid()
        if lines:
            said = (
                f"WHERRY {lines} lines ({characters} characters) dropped: over {self._limit.rate}"
            )
            self._add(said, at_ns)

    def _add(self, text: str, at_ns: int) -> None:
        line = Line(self._last + 1, at_ns, text)
        self._keep(line)
        if self._written is not None:
            self._written(line)

    def _keep(self, line: Line) -> None:
        self._last = max(self._last, line.offset)
        self._lines.append(line)
        self._size += len(line.text)
        while len(self._lines) > self._most or self._size > MAX_RING:
            self._size -= len(self._lines.popleft().text)


class _Limit:
    """A token bucket; empty, it stays shut until a quarter has run in again."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.dropped = 0
        self._lines = rate.lines * rate.burst
        self._characters = rate.characters * rate.burst
        self._at_ns = 0
        self._shut = False
        self._unsaid = (0, 0)

    def admits(self, size: int, at_ns: int) -> bool:
        """Return whether there is room for a line of ``size`` characters; count it if not."""
        rate = self.rate
        seconds = max(0, at_ns - self._at_ns) / 1e9
        self._at_ns = max(at_ns, self._at_ns)
        self._lines = min(rate.lines * rate.burst, self._lines + seconds * rate.lines)
        self._characters = min(
            rate.characters * rate.burst, self._characters + seconds * rate.characters
        )
        if self._shut:
            whole = (rate.lines * rate.burst, rate.characters * rate.burst)
            self._shut = self._lines < whole[0] / 4 or self._characters < whole[1] / 4
        if not self._shut and self._lines >= 1 and self._characters >= size:
            self._lines -= 1
            self._characters -= size
            return True
        self._shut = True
        self.dropped += 1
        self._unsaid = (self._unsaid[0] + 1, self._unsaid[1] + size)
        return False

    def unsaid(self) -> tuple[int, int]:
        """Return the lines and characters dropped since the last look."""
        unsaid, self._unsaid = self._unsaid, (0, 0)
        return unsaid


class Tail:
    """The last `MAX_TAIL` bytes of what one invocation logged."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0

    def append(self, text: str) -> None:
        """Add a line and drop from the front what no longer fits."""
        line = text[:MAX_LINE].encode(errors="replace") + b"\n"
        self._lines.append(line)
        self._size += len(line)
        while self._size - len(self._lines[0]) >= MAX_TAIL:
            self._size -= len(self._lines.popleft())

    def text(self) -> bytes:
        """Return the tail."""
        return b"".join(self._lines)[-MAX_TAIL:]
