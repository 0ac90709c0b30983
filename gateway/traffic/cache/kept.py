"""All answers that one gateway process keeps: bounded, found by URI, caller and variant."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.traffic.cache.entry import Entry

MAX_BYTES = 64 << 20
"""Most bytes kept, about."""

MAX_LINES = 50_000
"""Most URIs kept, each counted once for each caller that has answers of its own."""

MAX_VARIANTS = 8
"""Most answers to one caller for one URI, which the request's fields choose between."""

_REFRESH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Uri:
    """What an unsafe request makes invalid at once, whoever asked for it.

    Attributes:
        product: Of the route.
        origin: Scheme and host that were called, like ``https://api.example``.
        path: In its one spelling.
        query: Raw, without a key.
    """

    product: str
    origin: str
    path: str
    query: str


Place = tuple[Uri, str]
"""Where answers are: the URI, and the caller they are for; nothing: for everyone."""


@dataclass(slots=True)
class _Line:
    entries: list[Entry]
    refreshed_at: float = float("-inf")


class Cache:
    """Answers by place; when there are too many, those not asked for longest go.

    Args:
        most_bytes: See `MAX_BYTES`.
        most_lines: See `MAX_LINES`; at least 1.
    """

    def __init__(self, most_bytes: int = MAX_BYTES, most_lines: int = MAX_LINES) -> None:
        self._most_bytes, self._most_lines = most_bytes, most_lines
        self._lines: OrderedDict[Place, _Line] = OrderedDict()
        self._callers: dict[Uri, set[str]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._lines)

    def variants(self, place: Place) -> list[Entry]:
        """Return the answers that are kept at ``place``, the newest first."""
        line = self._lines.get(place)
        if line is None:
            return []
        self._lines.move_to_end(place)
        return line.entries

    def keep(self, place: Place, entry: Entry) -> None:
        """Keep ``entry`` in place of the one for the same variant.

        One that alone is over the bound is not kept.
        """
        self.drop(place, entry)
        if entry.size > self._most_bytes:
            return
        line = self._lines.setdefault(place, _Line([]))
        self._lines.move_to_end(place)
        self._callers.setdefault(place[0], set()).add(place[1])
        line.entries.insert(0, entry)
        line.refreshed_at = float("-inf")
        self.size += entry.size
        while len(line.entries) > MAX_VARIANTS:
            self.size -= line.entries.pop().size
        while self.size > self._most_bytes or len(self._lines) > self._most_lines:
            oldest = next(iter(self._lines))
            if oldest == place:
                self.size -= line.entries.pop().size
            else:
                self._forget(oldest)

    def drop(self, place: Place, entry: Entry) -> None:
        """Forget the answer for the variant that ``entry`` is for."""
        line = self._lines.get(place)
        if line is None:
            return
        same = [e for e in line.entries if (e.vary, e.digest) == (entry.vary, entry.digest)]
        for each in same:
            line.entries.remove(each)
            self.size -= each.size
        if not line.entries:
            self._forget(place)

    def may_refresh(self, place: Place, now: float) -> bool:
        """Return whether nobody else is asking afresh for ``place``, and count as doing so."""
        line = self._lines.get(place)
        if line is None or 0 <= now - line.refreshed_at < _REFRESH_SECONDS:
            return False
        line.refreshed_at = now
        return True

    def refreshed(self, place: Place) -> None:
        """Take note that the asking that `may_refresh` allowed has ended."""
        if line := self._lines.get(place):
            line.refreshed_at = float("-inf")

    def invalidate(self, uri: Uri) -> int:
        """Forget every answer for ``uri``, whoever it was for; return how many."""
        return sum(self._forget((uri, caller)) for caller in list(self._callers.get(uri, ())))

    def purge(
        self,
        *,
        product: str | None = None,
        path_prefix: str | None = None,
        tag: str | None = None,
    ) -> int:
        """Forget the answers that fit all that is given; return how many.

        Args:
            product: Of this product only.
            path_prefix: Whose path begins so, by whole segments: ``/a`` is not ``/ab``.
            tag: Which the upstream gave this tag.
        """
        gone = 0
        for place in list(self._places(product, path_prefix)):
            if tag is None:
                gone += self._forget(place)
            else:
                gone += self._forget_some(place, lambda entry: tag in entry.tags)
        return gone

    def _places(self, product: str | None, prefix: str | None) -> Iterator[Place]:
        below = None if prefix is None else prefix.rstrip("/") + "/"
        for place in self._lines:
            uri = place[0]
            fits = below is None or uri.path == prefix or uri.path.startswith(below)
            if fits and product in (None, uri.product):
                yield place

    def _forget_some(self, place: Place, fits: Callable[[Entry], bool]) -> int:
        some = [entry for entry in self._lines[place].entries if fits(entry)]
        for entry in some:
            self.drop(place, entry)
        return len(some)

    def _forget(self, place: Place) -> int:
        line = self._lines.pop(place, None)
        if line is None:
            return 0
        self.size -= sum(entry.size for entry in line.entries)
        callers = self._callers[place[0]]
        callers.discard(place[1])
        if not callers:
            del self._callers[place[0]]
        return len(line.entries)
