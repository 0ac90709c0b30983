"""A request as the cache sees it: whose it is, what it allows, and which variant it wants.

Source: RFC 9110 section 13, RFC 9111 sections 4.1 and 5.2.1
"""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b

from gateway.call import Caller, Head
from gateway.fields import named
from gateway.traffic.cache import dates
from gateway.traffic.cache.directives import Directives
from gateway.traffic.cache.entry import Entry
from gateway.traffic.cache.kept import Place, Uri

CONDITIONS = ("If-None-Match", "If-Modified-Since")
"""Fields of a client's own condition, which a kept answer can meet."""

_BYPASSING = ("Range", "If-Match", "If-Unmodified-Since", "If-Range")
_MADE_HERE = ("x-forwarded-", "x-wherry-", "x-envoy-", "forwarded", "via", "host", "x-real-ip")
_NOT_MODIFIED = frozenset(
    {"cache-control", "content-location", "date", "etag", "expires", "last-modified", "vary"}
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        head: Its head, without a key in the query.
        product: Whose route it is.
        caller: Who was identified.
        own: Fields that are taken out before it is sent on, in lower case.
        variant: What else decides which upstream it gets to and what is sent there: the route, a
            split's choice, what a transform says of the caller.
    """

    head: Head
    product: str
    caller: Caller
    own: Collection[str] = ()
    variant: str = ""

    @property
    def uri(self) -> Uri:
        """What it is about."""
        head = self.head
        called = head.authority or head.host
        return Uri(self.product, f"{head.scheme}://{called}", head.path.text, head.query)

    def place(self, *, by_consumer: bool) -> Place:
        """Return where answers to it are kept."""
        who = f"{self.caller.consumer}\n{self.caller.subject or ''}" if by_consumer else ""
        return self.uri, f"{who}\n{self.variant}" if self.variant else who

    @property
    def said(self) -> Directives:
        """Its directives."""
        return Directives.of(self.head.headers)

    @property
    def bypassing(self) -> bool:
        """Whether no kept answer can be right: a part is wanted, or a body says what is asked."""
        headers = self.head.headers
        has_body = "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"
        return has_body or any(name in headers for name in _BYPASSING)

    @property
    def personal(self) -> bool:
        """Whether it carries, for the upstream, a credential or a cookie of one person."""
        headers = self.head.headers
        sent = "Authorization" in headers and "authorization" not in self.own
        return sent or ("Cookie" in headers and "cookie" not in self.own)

    @property
    def authenticated(self) -> bool:
        """Whether somebody was identified, by whatever credential."""
        return self.caller.method != "anonymous"

    def digest(self, vary: tuple[str, ...]) -> bytes:
        """Return a digest of the values of the fields ``vary``; the values themselves are not kept.

        What the gateway says to the upstream about the caller counts as the gateway says it, and
        what it does not pass on counts as absent, so that nobody can have one answer kept as
        another.
        """
        digest = blake2b(digest_size=16)
        gone = named(self.head.headers) if vary else frozenset[str]()
        for name in vary:
            if name == "x-wherry-consumer":
                values = [self.caller.consumer]
            elif name in self.own or name in gone:
                values = []
            else:
                values = [value.strip() for value in self.head.headers.getall(name, ())]
            digest.update(repr((name, values)).encode(errors="surrogatepass"))
        return digest.digest()

    def unmet(self, entry: Entry, now: float) -> bool:
        """Return whether ``entry`` is what the client has already, so that 304 is the answer."""
        headers = self.head.headers
        if "If-None-Match" in headers:
            etag = entry.header("etag")
            given = _etags(",".join(headers.getall("If-None-Match")))
            return "*" in given or (etag is not None and etag.removeprefix("W/") in given)
        since = dates.parsed(headers.get("If-Modified-Since"), now)
        modified = dates.parsed(entry.header("last-modified"), now)
        return since is not None and modified is not None and modified <= since


def varying(fields: list[str]) -> tuple[str, ...] | None:
    """Return the names in lines of ``Vary``, sorted; None: no request can be told to fit.

    A field that the gateway makes itself, other than the consumer's name, cannot be told either.
    """
    names = {name.strip().lower() for line in fields for name in line.split(",")} - {""}
    for name in names:
        if name == "*" or (name != "x-wherry-consumer" and name.startswith(_MADE_HERE)):
            return None
    return tuple(sorted(names))


def of_not_modified(name: str) -> bool:
    """Return whether a 304 repeats this field (RFC 9110 section 15.4.5)."""
    return name.lower() in _NOT_MODIFIED


def _etags(field: str) -> set[str]:
    """Return the entity tags of a list, each without its mark of weakness, or ``*``."""
    if field.strip() == "*":
        return {"*"}
    found, at = set[str](), 0
    while (start := field.find('"', at)) >= 0:
        end = field.find('"', start + 1)
        if end < 0:
            break
        found.add(field[start : end + 1])
        at = end + 1
    return found
