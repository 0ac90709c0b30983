"""One answer that is kept, and how old and how fresh it is.

Source: RFC 9111 section 4.2
"""

from dataclasses import dataclass, replace

from multidict import CIMultiDict

from gateway.call import Fields
from gateway.traffic.cache import dates
from gateway.traffic.cache.directives import Directives

HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be kept although the answer says nothing (RFC 9110 section 15.1)."""

_OF_ONE_REQUEST = frozenset({405, 414, 501})
"""Statuses that say less of a resource than of a request; another client may get another one."""

UNDERSTOOD = HEURISTIC | {302, 303, 307, 451}
"""Statuses that may be kept; parts of answers (206) never are."""

HIDDEN = ("Surrogate-Key", "Surrogate-Control", "Cache-Tag")
"""Fields for the cache only."""

_OF_THE_BODY = frozenset({"content-length", "content-encoding", "content-type", "content-range"})
_NOT_KEPT = frozenset({"age", "connection", "cache-status", "transfer-encoding", "content-length"})
_OVERHEAD = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole answer to a GET.

    Attributes:
        status: Of the answer.
        headers: That are sent again; without those that frame the message.
        body: The whole of it.
        said: Its directives.
        born: Unix seconds when it was made, by the upstream's ``Age`` and how long it took to
            come; its age counts from here.
        lifetime: Seconds of age up to which it is fresh.
        vary: Fields of the request that it depends on, in lower case.
        digest: Of the values of these.
        tags: By which it can be purged.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    said: Directives
    born: float
    lifetime: float
    vary: tuple[str, ...]
    digest: bytes
    tags: frozenset[str]

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return _OVERHEAD + headers + len(self.body) + sum(map(len, self.tags))

    def header(self, name: str) -> str | None:
        """Return the first value of a field, whose name is in lower case, or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def age(self, now: float) -> float:
        """Return the seconds (>= 0) since it was made."""
        return max(0.0, now - self.born)

    def stale_for(self, now: float) -> float:
        """Return for how many seconds it has been stale; negative while it is fresh."""
        return self.age(now) - self.lifetime

    @property
    def never_stale(self) -> bool:
        """Whether it must be asked about once it is stale, whatever happens."""
        return "must-revalidate" in self.said or "proxy-revalidate" in self.said

    @property
    def always_asked(self) -> bool:
        """Whether it must be asked about each time."""
        return "no-cache" in self.said

    @property
    def conditions(self) -> dict[str, str]:
        """Fields of a request that asks if it is still right; none: it cannot be asked about."""
        asked = {"If-None-Match": self.header("etag"), "If-Modified-Since": self.modified}
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def modified(self) -> str | None:
        """Its ``Last-Modified``, if that is a date."""
        value = self.header("last-modified")
        return value if dates.parsed(value, self.born) is not None else None

    def freshened(
        self, headers: Fields, *, default: float | None, asked: float, now: float
    ) -> "Entry":
        """Return the answer with the fields of the 304 that says it is still right.

        Source: RFC 9111 section 3.2
        """
        new = {name.lower() for name in headers} - _OF_THE_BODY
        kept = [(name, value) for name, value in self.headers if name.lower() not in new]
        kept += [(name, value) for name, value in headers.items() if name.lower() in new]
        fields = CIMultiDict(kept)
        said = Directives.of(fields)
        return replace(
            self,
            headers=kept_fields(fields),
            said=said,
            born=born(headers, asked=asked, now=now),
            lifetime=lifetime(self.status, fields, said, default=default, now=now),
            tags=self.tags | tags(headers),
        )


def kept_fields(headers: Fields) -> tuple[tuple[str, str], ...]:
    """Return the fields of an answer that are kept with it."""
    hidden = {name.lower() for name in HIDDEN} | _NOT_KEPT
    return tuple((name, value) for name, value in headers.items() if name.lower() not in hidden)


def tags(headers: Fields) -> frozenset[str]:
    """Return the tags of an answer: words of ``Surrogate-Key``, and of ``Cache-Tag`` by comma."""
    words = " ".join(headers.getall("Surrogate-Key", ())).split()
    listed = ",".join(headers.getall("Cache-Tag", ())).split(",")
    return frozenset({*words, *(tag.strip() for tag in listed)} - {""})


def born(headers: Fields, *, asked: float, now: float) -> float:
    """Return the Unix seconds when an answer was made, as far as can be known.

    Args:
        headers: Of the answer.
        asked: When the request was sent.
        now: When the answer came.

    Source: RFC 9111 section 4.2.3
    """
    date = dates.parsed(headers.get("Date"), now)
    apparent = max(0.0, now - date) if date is not None else 0.0
    told = headers.get("Age", "0").partition(",")[0].strip()
    age = float(told[:10]) if told.isascii() and told.isdigit() else 0.0
    return now - max(apparent, age + max(0.0, now - asked))


def lifetime(
    status: int, headers: Fields, said: Directives, *, default: float | None, now: float
) -> float:
    """Return the seconds of age up to which an answer is fresh.

    Args:
        status: Of the answer.
        headers: Of the answer.
        said: Its directives.
        default: For answers that say nothing; None is none.
        now: When the answer came.

    Source: RFC 9111 section 4.2.1
    """
    for name in ("s-maxage", "max-age"):
        if (given := said.seconds(name)) is not None:
            return float(given)
    if "Expires" in headers:
        expires = dates.parsed(headers["Expires"], now)
        date = dates.parsed(headers.get("Date"), now)
        return 0.0 if expires is None else max(0.0, expires - (now if date is None else date))
    return default if default is not None and status in HEURISTIC - _OF_ONE_REQUEST else 0.0
