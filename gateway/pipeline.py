"""One API call, from its head to its usage record.

Match, identify, authorise, limit, reserve a place for the record, pass on, record. A path that
no product has is told apart before the key is looked at (404): paths of products are no secret,
and everything behind them needs a key.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import quote

from multidict import CIMultiDict

from gateway import accesslog, fields, malformed, path, trace
from gateway.admission import Admission
from gateway.authn.oauth import PATHS as TOKEN_SERVER
from gateway.body import Body
from gateway.call import Answer, Head
from gateway.catalogue import RESERVED, Catalogue, Route
from gateway.metrics import Metrics
from gateway.parts import Parts
from gateway.passing import GONE, Passing, Trail, refusal
from gateway.problem import Refused, out_of_capacity
from gateway.request import Request
from gateway.traffic.cors import OWN as SHARING_FIELDS
from gateway.treatment import counted_at_end
from gateway.usage import REQUESTS, Usage
from gateway.websocket import Switched
from wherry.clock import Clock

logger = logging.getLogger(__name__)

HEALTHY = "/.wherry/healthz"
"""Answers 200 while the gateway runs."""

READY = "/.wherry/readyz"
"""Answers 200 while calls can be identified and recorded and no end is near, else 503."""

MAX_OWN_BODY = 1 << 16
"""Most bytes in the body of a request for the gateway itself."""

OWN_SECONDS = 10.0
"""Longest that such a body may take to come."""

_LOGGED = 200
"""Most characters of a path in the log."""


class Pipeline:
    """Handles every request of the gateway.

    Args:
        catalogue: The routing table in use.
        parts: What the stages are made of.
        clock: Where the time is read.
        most: Most calls under way at once; more are refused with 503.

    Attributes:
        draining: The gateway is about to end and wants no new calls.
        metrics: What it counted.
    """

    def __init__(self, catalogue: Catalogue, parts: Parts, *, clock: Clock, most: int) -> None:
        self._parts, self._clock = parts, clock
        self._admission = Admission(catalogue, parts, clock)
        self._most, self._under_way = most, 0
        self._chance = trace.Chance()
        self._busy: dict[tuple[str, str], int] = {}
        self.draining = False
        self.metrics = Metrics()
        self.metrics.gauge("calls_under_way", "Calls that are not ended.", lambda: self._under_way)

    def use(self, catalogue: Catalogue) -> None:
        """Take ``catalogue`` for all requests from now on."""
        self._admission.catalogue = catalogue

    async def handle(self, request: Request) -> Answer:
        """Answer ``request``; a body that comes in pieces is to be closed."""
        if self._under_way >= self._most:
            self.metrics.refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return refusal(out_of_capacity("Too many calls are under way."))
        self._under_way += 1
        trail = Trail(request, self._clock.now())
        answer: Answer | None = None
        failed = GONE
        try:
            answer = await self._handle(trail)
        except Refused as refused:
            answer = self._refused(trail, refused)
        except Exception:
            failed = HTTPStatus.INTERNAL_SERVER_ERROR.value
            raise
        finally:
            if answer is None:
                self.ended(trail, failed)
            elif isinstance(answer.body, bytes):
                self._sent(trail, len(answer.body))
                self.ended(trail, answer.status)
        if not isinstance(answer.body, bytes):
            answer.body = _Ending(self, trail, answer.status, answer.body)
        return answer

    def ended(self, trail: Trail, status: int) -> None:
        """Count a request as ended: every one once, whatever became of it."""
        self._under_way -= 1
        seconds = self._clock.now() - trail.began
        if trail.grant is not None:
            trail.grant.release()
        if trail.refused is not None:
            self.metrics.refuse(status)
        if (call := trail.call) is not None:
            self._record(trail, call, status, seconds)
        if self._admission.catalogue.settings.access_log:
            accesslog.write(trail, status, seconds, self._clock)
        if logger.isEnabledFor(logging.DEBUG):
            where = accesslog.shown(trail.request.target)[:_LOGGED]
            seen = {"method": trail.request.method, "path": where, "status": status}
            logger.debug("call", extra=seen)

    async def _handle(self, trail: Trail) -> Answer:
        request, admission = trail.request, self._admission
        malformed.check(request.method, request.protocol, request.headers)
        where, query = path.split(request.target)
        if where.text in (HEALTHY, READY):
            return self._health(where.text)
        head = trail.head = admission.head(request, where, query)
        if where.segments[0] == RESERVED or where.text in TOKEN_SERVER:
            return await self._own(request, head)
        if head.method == "OPTIONS" and (agreed := admission.preflight(head)) is not None:
            return agreed
        call = await admission.admitted(trail, head, admission.found(head))
        if not self._parts.recorder.reserved():
            await self._parts.recorder.reserve()
        trail.call = call
        answer = await self._passed_on(call)
        if call.upgrades and isinstance(answer, Switched):
            call.tunnel = answer.tunnel
        trail.overhead = self._clock.now() - trail.began - call.upstream
        if admission.catalogue.settings.timing:
            answer.headers.add("Server-Timing", f"gateway;dur={trail.overhead * 1000:.2f}")
        answer.headers.update(call.fields)
        if call.route.policies.sharing is not None or call.route.notices:
            _say(answer, call.route, head)
        return answer

    def _passed_on(self, call: Passing) -> Awaitable[Answer]:
        """Begin the call's way, which is gone once it is awaited."""
        head, route = call.head, call.route
        headers = fields.onward(
            head.headers,
            peer=head.peer,
            host=head.authority,
            consumer=call.caller.consumer,
            scheme=head.scheme,
            secrets=route.authentication.secret_fields,
        )
        if call.caller.subject is not None:
            headers["X-Wherry-Subject"] = quote(call.caller.subject)
        call.trace = trace.carried_on(headers, self._chance)
        most = route.policies.max_calls
        if most is not None:
            self._take_place(call, most)
        way = self._parts.passage if route.policies.plain else self._parts.treatment
        return way.go(call, headers)

    def _refused(self, trail: Trail, refused: Refused) -> Answer:
        trail.refused = refused
        answer = refusal(refused)
        if trail.call is not None:
            for name, value in trail.call.fields.items():
                answer.headers.setdefault(name, value)
        if trail.route is not None and trail.head is not None:
            _say(answer, trail.route, trail.head)
        return answer

    def _take_place(self, call: Passing, most: int) -> None:
        place = (call.route.product, call.route.template)
        busy = self._busy.get(place, 0)
        if busy >= most:
            raise out_of_capacity("Too many calls of this product are under way.")
        self._busy[place] = busy + 1
        call.place = place

    def _sent(self, trail: Trail, size: int) -> None:
        if trail.call is not None:
            trail.call.sent += size

    def _record(self, trail: Trail, call: Passing, status: int, seconds: float) -> None:
        """Put the call's usage into the place that was reserved for it."""
        if call.place is not None:
            self._busy[call.place] -= 1
            if not self._busy[call.place]:
                del self._busy[call.place]
        route, caller, refused = call.route, call.caller, trail.refused is not None
        if route.policies.totals is not None and not refused:
            counted_at_end(call, route.policies.totals, seconds)
        if call.amounts:
            self._parts.limits.spent(
                call.terms.allowance, caller, route.product, route.operation, call.amounts
            )
        self.metrics.count(route.product, route.operation, status, seconds, trail.overhead)
        for flaw in call.flaws:
            self.metrics.flaw(route.product, flaw)
        self._parts.recorder.record(
            Usage(
                call.id,
                call.at_ns,
                caller.consumer,
                caller.app,
                route.product,
                route.operation,
                call.terms.plan,
                caller.credential,
                status,
                {**_units(route.cost), **call.amounts} if call.amounts else _units(route.cost),
                _labels(call.head.method, route.template, route.version),
                refused,
            )
        )

    async def _own(self, request: Request, head: Head) -> Answer:
        """Answer a request for the gateway itself.

        Raises:
            Refused: 404, or 408 or 413 for its body.
        """
        body = Body(request.body, MAX_OWN_BODY)
        try:
            async with asyncio.timeout(OWN_SECONDS):
                whole = await body.whole()
        except TimeoutError:
            detail = f"The body did not come within {OWN_SECONDS:g} s."
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, detail) from None
        answer = await self._parts.authenticator.own(head, whole)
        if answer is None:
            raise Refused(HTTPStatus.NOT_FOUND, "The gateway has no such path of its own.")
        return answer

    def _health(self, which: str) -> Answer:
        parts = self._parts
        ready = parts.keyring.loaded.is_set() and not parts.recorder.failing and not self.draining
        ok = which == HEALTHY or ready
        return Answer(
            HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE,
            CIMultiDict({"Content-Type": "text/plain; charset=utf-8", "Server": "wherry"}),
            b"ok\n" if ok else b"not ready\n",
        )


class _Ending:
    """The pieces of an answer; when there are no more, the call is ended."""

    __slots__ = ("_done", "_pieces", "_pipeline", "_status", "_trail")

    def __init__(
        self, pipeline: Pipeline, trail: Trail, status: int, pieces: AsyncIterator[bytes]
    ) -> None:
        self._pipeline, self._trail, self._status = pipeline, trail, status
        self._pieces, self._done = pieces, False

    def __aiter__(self) -> "_Ending":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pieces.__anext__()
        if self._trail.call is not None:
            self._trail.call.sent += len(piece)
        return piece

    async def aclose(self) -> None:
        if self._done:
            return
        self._done = True
        try:
            await self._pieces.aclose()  # type: ignore[attr-defined]
        finally:
            self._pipeline.ended(self._trail, self._status)


@lru_cache(64)
def _units(cost: int) -> Mapping[str, int]:
    """Return what a call comes to of which nothing more is measured."""
    return {REQUESTS: cost}


@lru_cache(4096)
def _labels(method: str, route: str, version: str) -> Mapping[str, str]:
    """Return what usage says more of a call: often the same object."""
    return {"method": method, "route": route, "version": version}


def _say(answer: Answer, route: Route, head: Head) -> None:
    """Put the fields into ``answer`` that are said of the route, not of what it leads to."""
    headers = answer.headers
    for name, value in route.notices:
        headers[name] = value
    sharing = route.policies.sharing
    if sharing is None:
        return
    for name in [name for name in headers if name.lower() in SHARING_FIELDS]:
        headers.popall(name, None)
    for name, value in sharing.fields(head.headers.get("Origin")).items():
        if name == "Vary":
            headers.add(name, value)
        else:
            headers[name] = value
