"""What the cache answers itself, what it asks the upstream, and what it keeps.

Source: RFC 9111, RFC 5861 (stale-while-revalidate, stale-if-error), RFC 9211 (Cache-Status)
"""

from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from multidict import CIMultiDict

from gateway.call import Answer, Fields
from gateway.path import split
from gateway.problem import Refused
from gateway.traffic.cache import dates
from gateway.traffic.cache.asked import Asked, of_not_modified, varying
from gateway.traffic.cache.directives import Directives
from gateway.traffic.cache.entry import (
    HIDDEN,
    UNDERSTOOD,
    Entry,
    born,
    kept_fields,
    lifetime,
    tags,
)
from gateway.traffic.cache.kept import Cache, Place, Uri
from gateway.traffic.cache.outcome import Answered, Forward, Hit, Keep
from wherry.model.resource import seconds
from wherry.model.traffic import Cache as Model

NAME = "wherry"
"""In the field ``Cache-Status``."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_BROKEN = frozenset({500, 502, 503, 504})
_GOOD = range(200, 400)


@dataclass(frozen=True, slots=True)
class Caching:
    """A policy, ready to use.

    Attributes:
        default: Seconds that an answer counts that says nothing; None: it is not kept.
        most_bytes: Of a body that is kept.
        by_consumer: Whether each consumer has answers of their own.
        methods: Of requests that kept answers answer; only answers to GET are kept.
    """

    default: float | None
    most_bytes: int
    by_consumer: bool
    methods: frozenset[str]

    @classmethod
    def of(cls, cache: Model) -> "Caching":
        """Prepare ``cache``."""
        default = None if cache.default is None else seconds(cache.default)
        methods = frozenset[str](cache.methods)
        return cls(default, cache.most_bytes, cache.by_consumer, methods)

    def look(self, cache: Cache, asked: Asked, now: float) -> Hit | Forward:
        """Return the answer to a request, or how to ask the upstream.

        Args:
            cache: What is kept.
            asked: The request.
            now: Unix seconds.

        Raises:
            Refused: 504, the client wants a kept answer only and there is none.
        """
        place = asked.place(by_consumer=self.by_consumer)
        if asked.head.method not in self.methods:
            return Forward(asked, now, "method", place)
        if asked.bypassing:
            return Forward(asked, now, "bypass", place)
        said = asked.said
        variants = cache.variants(place)
        entry = next((e for e in variants if asked.digest(e.vary) == e.digest), None)
        if entry is not None and asked.personal and not _shareable(entry.said):
            entry = None
        if entry is not None:
            hit = self._hit(cache, place, asked, entry, said, now)
            if hit is not None:
                return hit
        if "only-if-cached" in said:
            detail = "Only a kept answer was wanted, and there is none that counts."
            raise Refused(HTTPStatus.GATEWAY_TIMEOUT, detail)
        return self._forward(asked, place, entry, now, missed=bool(variants))

    def answered(
        self, cache: Cache, forward: Forward, status: int, headers: CIMultiDict[str], now: float
    ) -> Answered:
        """Say what becomes of an upstream's answer.

        The fields change in place: those for the cache only go, and ``Cache-Status`` is added.

        Args:
            cache: What is kept.
            forward: As the request was sent.
            status: Of the answer.
            headers: Of the answer, without those between two connections.
            now: Unix seconds when its head came.

        Raises:
            Refused: 502, the upstream says that another version than the kept one is still right.
        """
        if forward.asked.head.method not in _SAFE:
            self._unsafe(cache, forward.asked, status, headers)
        if status == HTTPStatus.NOT_MODIFIED and forward.conditions:
            return self._freshened(cache, forward, headers, now)
        if status in _BROKEN and (stand_in := self.failed(forward, now)) is not None:
            return stand_in
        keep = self._keep(forward, status, headers, now)
        if keep is None and forward.entry is not None and status not in _BROKEN:
            cache.drop(forward.place, forward.entry)
        for name in HIDDEN:
            headers.popall(name, None)
        note = f"{NAME}; fwd={forward.why}; fwd-status={status}"
        headers.add("Cache-Status", note + ("; stored" if keep else ""))
        return keep

    def failed(self, forward: Forward, now: float) -> Answer | None:
        """Return the kept answer that stands in for an upstream that is broken, or None.

        Source: RFC 5861 section 4
        """
        entry = forward.entry
        if entry is None or entry.never_stale or entry.always_asked:
            return None
        spans = (entry.said, forward.asked.said)
        allowed = max((said.seconds("stale-if-error") or 0 for said in spans), default=0)
        if entry.stale_for(now) > allowed or allowed == 0:
            return None
        return self._answer(forward.asked, entry, now, "; hit; detail=stale-if-error")

    def keep(self, cache: Cache, keep: Keep, body: bytes) -> None:
        """Keep an answer whose body came whole; one that is too long is not kept."""
        if len(body) <= keep.most:
            cache.keep(keep.place, replace(keep.entry, body=body))

    def _hit(
        self,
        cache: Cache,
        place: Place,
        asked: Asked,
        entry: Entry,
        said: Directives,
        now: float,
    ) -> Hit | None:
        if entry.always_asked or not _fits(entry, said, now):
            return None
        stale = entry.stale_for(now)
        if stale < 0:
            return Hit(self._answer(asked, entry, now, f"; hit; ttl={int(-stale)}"))
        if entry.never_stale:
            return None
        meanwhile = entry.said.seconds("stale-while-revalidate")
        if meanwhile and stale <= meanwhile:
            refresh = None
            if asked.head.method == "GET" and cache.may_refresh(place, now):
                refresh = self._forward(asked, place, entry, now, missed=False)
            return Hit(self._answer(asked, entry, now, f"; hit; ttl={int(-stale)}"), refresh)
        if "s-maxage" not in entry.said and _accepts_stale(said, stale):
            return Hit(self._answer(asked, entry, now, f"; hit; ttl={int(-stale)}"))
        return None

    def _forward(
        self, asked: Asked, place: Place, entry: Entry | None, now: float, *, missed: bool
    ) -> Forward:
        if entry is None:
            why = "vary-miss" if missed else "uri-miss"
        else:
            why = "stale" if entry.always_asked or entry.stale_for(now) >= 0 else "request"
        # A client that asks with HEAD gets its answer from GET only, so nothing of it is kept.
        whole = asked.head.method == "GET"
        conditions = entry.conditions if entry is not None and whole else {}
        return Forward(asked, now, why, place, entry, conditions, keeps=whole)

    def _answer(self, asked: Asked, entry: Entry, now: float, note: str) -> Answer:
        headers = CIMultiDict(entry.headers)
        status, body = entry.status, entry.body
        if status == HTTPStatus.OK and asked.unmet(entry, now):
            status, body = HTTPStatus.NOT_MODIFIED.value, b""
            headers = CIMultiDict((n, v) for n, v in entry.headers if of_not_modified(n))
        headers["Age"] = str(int(entry.age(now)))
        headers.add("Cache-Status", NAME + note)
        return Answer(status, headers, body)

    def _freshened(
        self, cache: Cache, forward: Forward, headers: CIMultiDict[str], now: float
    ) -> Answer:
        entry = forward.entry
        etag = headers.get("ETag")
        known = entry and entry.header("etag")
        if entry is None or (etag and (known or "").removeprefix("W/") != etag.removeprefix("W/")):
            if entry is not None:
                cache.drop(forward.place, entry)
            detail = "The upstream says 'not modified' of a version that it was not asked about."
            raise Refused(HTTPStatus.BAD_GATEWAY, detail)
        fresh = entry.freshened(headers, default=self.default, asked=forward.at, now=now)
        if _forbidden(fresh.said):
            cache.drop(forward.place, entry)
        else:
            cache.keep(forward.place, fresh)
        return self._answer(forward.asked, fresh, now, "; fwd=stale; fwd-status=304; stored")

    def _keep(
        self, forward: Forward, status: int, headers: CIMultiDict[str], now: float
    ) -> Keep | None:
        asked, said = forward.asked, Directives.of(headers)
        vary = varying(headers.getall("Vary", []))
        if not forward.keeps or vary is None or not self._storable(asked, status, headers, said):
            return None
        length = headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self.most_bytes:
            return None
        if "Date" not in headers:
            headers["Date"] = dates.shown(now)
        entry = Entry(
            status,
            kept_fields(headers),
            b"",
            said,
            born(headers, asked=forward.at, now=now),
            lifetime(status, headers, said, default=self.default, now=now),
            vary,
            asked.digest(vary),
            tags(headers),
        )
        # Without a time and without anything to ask about, it could never be used.
        return Keep(self.most_bytes, forward.place, entry) if _useful(entry, now) else None

    def _storable(self, asked: Asked, status: int, headers: Fields, said: Directives) -> bool:
        """Return whether RFC 9111 section 3 and this policy let an answer be kept."""
        if status not in UNDERSTOOD or "no-store" in asked.said or _forbidden(said):
            return False
        if "Set-Cookie" in headers or asked.personal:
            return _shareable(said)
        allowed = self.by_consumer or not asked.authenticated
        return allowed or _shareable(said) or "must-revalidate" in said

    def _unsafe(self, cache: Cache, asked: Asked, status: int, headers: Fields) -> None:
        """Forget what a change has made wrong (RFC 9111 section 4.4)."""
        if status not in _GOOD:
            return
        uri = asked.uri
        cache.invalidate(uri)
        here = uri.origin + uri.path
        for name in ("Location", "Content-Location"):
            if (where := headers.get(name)) is None:
                continue
            try:
                there = urlsplit(urljoin(here, where))
                path, query = split(f"{there.path}?{there.query}" if there.query else there.path)
                origin = f"{there.scheme}://{there.netloc.lower()}"
            except (ValueError, Refused):
                continue
            if origin == uri.origin:
                cache.invalidate(Uri(uri.product, origin, path.text, query))


def _forbidden(said: Directives) -> bool:
    """Return whether an answer must not be kept; what cannot be read may have said so."""
    understood = "must-understand" in said
    return said.broken or ("no-store" in said and not understood) or "private" in said


def _shareable(said: Directives) -> bool:
    return "public" in said or "s-maxage" in said


def _useful(entry: Entry, now: float) -> bool:
    fresh = not entry.always_asked and entry.stale_for(now) < 0
    return fresh or bool(entry.conditions)


def _fits(entry: Entry, said: Directives, now: float) -> bool:
    """Return whether the request's own directives let a kept answer be used."""
    if "no-cache" in said:
        return False
    most, left = said.seconds("max-age"), said.seconds("min-fresh")
    age = entry.age(now)
    if most is not None and age > most:
        return False
    return left is None or -entry.stale_for(now) >= left


def _accepts_stale(said: Directives, stale: float) -> bool:
    if "max-stale" not in said:
        return False
    return said.values["max-stale"] == "" or stale <= (said.seconds("max-stale") or 0)
