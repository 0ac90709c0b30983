"""One API call, from its head to its usage record.

Match, identify, authorise, throttle, reserve a place for the record, pass on, record. A path
that no product has is told apart before the key is looked at (404): paths of products are no
secret, and everything behind them needs a key.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.web import BaseRequest, Response, StreamResponse
from multidict import CIMultiDict

from gateway import fields, path, problem
from gateway.body import Body
from gateway.catalogue import Catalogue, Route, WrongMethod
from gateway.event import Call
from gateway.invoke import Invoker
from gateway.keyring import Keyring
from gateway.keys import Key
from gateway.path import Path
from gateway.problem import Refused, out_of_capacity
from gateway.proxy import Proxy
from gateway.ratelimit import Allowance, Throttle
from gateway.recorder import Recorder
from gateway.usage import REQUESTS, Usage
from wherry.clock import Clock

logger = logging.getLogger(__name__)

HEALTHY = "/.wherry/healthz"
"""Answers 200 while the gateway runs."""

READY = "/.wherry/readyz"
"""Answers 200 while calls can be identified and recorded, else 503."""

_LOGGED = 200
"""Most characters of a path in the log."""

_CHALLENGE = {"WWW-Authenticate": 'ApiKey realm="wherry", header="x-api-key"'}


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A call that was let through."""

    route: Route
    path: Path
    query: str
    key: Key
    allowance: Allowance
    limits: Mapping[str, str]


class Pipeline:
    """Handles every request of the gateway.

    Args:
        keyring: Who calls.
        throttle: How much they may.
        recorder: What they did.
        proxy: Towards services.
        invoker: Towards functions.
        clock: Where the time is read.
        most: Most calls under way at once; more are refused with 503.

    Attributes:
        catalogue: The routing table in use; replaced whole.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        keyring: Keyring,
        throttle: Throttle,
        recorder: Recorder,
        proxy: Proxy,
        invoker: Invoker,
        clock: Clock,
        most: int,
    ) -> None:
        self.catalogue = catalogue
        self._keyring, self._throttle, self._recorder = keyring, throttle, recorder
        self._proxy, self._invoker, self._clock = proxy, invoker, clock
        self._most, self._under_way = most, 0

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer ``request``."""
        self._under_way += 1
        try:
            if self._under_way > self._most:
                raise out_of_capacity("Too many calls are under way.")
            answer = await self._handle(request)
        except Refused as refused:
            answer = refusal(refused)
        finally:
            self._under_way -= 1
        if logger.isEnabledFor(logging.DEBUG):
            where = request.raw_path.partition("?")[0][:_LOGGED]
            seen = {"method": request.method, "path": where, "status": answer.status}
            logger.debug("call", extra=seen)
        return answer

    async def _handle(self, request: BaseRequest) -> StreamResponse:
        where, query = path.split(request.raw_path)
        if where.text in (HEALTHY, READY):
            return self._health(where.text)
        call = self._admit(request, where, query)
        at, status = self._clock.unix_ns(), 499
        await self._recorder.reserve()
        try:
            answer = await self._pass_on(request, call)
            status = answer.status
        except Refused as refused:
            status = refused.status.value
            refused.headers = {**call.limits, **refused.headers}
            raise
        finally:
            self._recorder.record(self._usage(request, call, at, status))
        return answer

    def _admit(self, request: BaseRequest, where: Path, query: str) -> _Admitted:
        """Match, identify, authorise and throttle: everything that needs no waiting."""
        found = self.catalogue.match(request.method, where)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "No product has this path.")
        query, parameter = path.without(query, "apikey")
        given = request.headers.getall("x-api-key", ()) or ((parameter,) if parameter else ())
        key = self._keyring.owner(given[0]) if len(given) == 1 else None
        if key is None:
            detail = "A valid key is needed in the header x-api-key or the parameter apikey."
            raise Refused(HTTPStatus.UNAUTHORIZED, detail, headers=_CHALLENGE)
        allowance = self.catalogue.allowance(key.consumer, found.product)
        if allowance is None:
            detail = f"The key's consumer has no subscription to product {found.product!r}."
            raise Refused(HTTPStatus.FORBIDDEN, detail)
        if isinstance(found, WrongMethod):
            detail = f"This path does not take {request.method}."
            allow = {"Allow": ", ".join(found.allowed)}
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=allow)
        limits = self._throttle.spend(key.prefix, found.product, allowance, self._clock.now())
        return _Admitted(found, where, query, key, allowance, limits)

    async def _pass_on(self, request: BaseRequest, call: _Admitted) -> StreamResponse:
        body = Body(request, call.route.max_body_bytes)
        peer = request.remote or ""
        host = request.headers.get(hdrs.HOST, "")
        headers = fields.onward(request.headers, peer=peer, host=host, consumer=call.key.consumer)
        if call.route.function is not None:
            return await self._invoke(call.route.function, request, call, headers, body)
        target = call.route.forwarded(call.path)
        query = f"?{call.query}" if call.query else ""
        return await self._proxy.pass_on(
            request,
            body,
            url=f"http://{call.route.service}{target}{query}",
            headers=headers,
            extra=call.limits,
            timeout=call.route.timeout,
        )

    async def _invoke(
        self,
        function: str,
        request: BaseRequest,
        call: _Admitted,
        headers: CIMultiDict[str],
        body: Body,
    ) -> StreamResponse:
        route = call.route
        try:
            async with asyncio.timeout(route.timeout):
                whole = await body.whole()
        except TimeoutError:
            detail = f"The body did not come within {route.timeout:g} s."
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, detail) from None
        host = headers["X-Forwarded-Host"]
        asked = Call(
            request_id=self._recorder.next_id(),
            api=route.product,
            route=f"{request.method} {route.template}",
            method=request.method,
            path=call.path.text,
            query=call.query,
            parameters=route.parameters(call.path),
            headers=headers,
            host=host,
            peer=headers["X-Forwarded-For"],
            protocol=f"HTTP/{request.version.major}.{request.version.minor}",
            at_ns=self._clock.unix_ns(),
            consumer=call.key.consumer,
            plan=call.allowance.plan,
            body=whole,
        )
        answer = await self._invoker.invoke(function, asked, timeout=route.timeout)
        sent = fields.back(answer.headers)
        sent.update(call.limits)
        return Response(status=answer.status, headers=sent, body=answer.body)

    def _usage(self, request: BaseRequest, call: _Admitted, at: int, status: int) -> Usage:
        labels = {
            "plan": call.allowance.plan,
            "key": call.key.prefix,
            "method": request.method,
            "route": call.route.template,
            "status": str(status),
        }
        return Usage(
            self._recorder.next_id(),
            at,
            call.key.consumer,
            call.route.product,
            REQUESTS,
            1,
            labels,
        )

    def _health(self, which: str) -> Response:
        ready = self._keyring.loaded.is_set() and not self._recorder.failing
        ok = which == HEALTHY or ready
        return Response(
            status=HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE,
            text="ok\n" if ok else "not ready\n",
            headers={"Server": "wherry"},
        )


def refusal(refused: Refused) -> Response:
    """Return the HTTP answer to a refused request."""
    headers = {"Content-Type": problem.CONTENT_TYPE, "Server": "wherry", **refused.headers}
    answer = Response(status=refused.status.value, headers=headers, body=refused.body())
    if headers.get("Connection") == "close":
        answer.force_close()
    return answer
