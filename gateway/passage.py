"""The way of a call to its upstream and back: split, breaker, retries, mirror."""

import asyncio
import logging
from collections.abc import Awaitable
from http import HTTPStatus
from secrets import SystemRandom

from multidict import CIMultiDict

from gateway.call import Answer
from gateway.catalogue.target import Target, Upstream
from gateway.event import Call
from gateway.invoke import Invoker
from gateway.passing import Passing
from gateway.problem import Refused, out_of_capacity
from gateway.proxy import Proxy, answered, refused
from gateway.recent import Recent
from gateway.tasks import Background
from gateway.traffic.breaker import Breaker, Breakers
from gateway.traffic.retries import Budget, Outcome, Repeating, wait
from gateway.traffic.split import copied
from gateway.upstream.exchange import Exchange
from gateway.upstream.trouble import BrokenOff, Late, NoConnection, UpstreamError
from wherry.clock import Clock

logger = logging.getLogger(__name__)

MAX_BUDGETS = 10_000
"""Most upstreams whose retries are counted; the one unused for longest is forgotten."""

_SERVER_ERROR = 500
_dice = SystemRandom().random


class Passage:
    """Takes calls to upstreams.

    Args:
        proxy: Towards services and outside servers.
        invoker: Towards functions.
        clock: Where the time is read.
        background: Sends the copies for mirrors; while it is full, requests are not copied.
    """

    def __init__(
        self, proxy: Proxy, invoker: Invoker, clock: Clock, background: Background
    ) -> None:
        self._proxy, self._invoker = proxy, invoker
        self._clock, self._background = clock, background
        self._breakers = Breakers()
        self._budgets: Recent[tuple[str, int], Budget] = Recent(MAX_BUDGETS)

    async def go(self, call: Passing, headers: CIMultiDict[str]) -> Answer:
        """Return the upstream's answer to ``call``.

        Args:
            call: What to take there.
            headers: As the upstream gets them.

        Raises:
            Refused: There is none.
        """
        target, policies = call.route.target, call.route.policies
        if target.mock is not None:
            return target.mock.answer()
        upstream = chosen(target, call)
        call.served = upstream.name
        began = self._clock.now()
        try:
            if target.mirror is not None:
                await self._copied(call, target, headers)
            if policies.breaker is None:
                return await self._tried(upstream, call, headers)
            breaker = self._breakers.of(upstream.name, policies.breaker)
            return await self._behind(breaker, upstream, call, headers)
        finally:
            call.upstream += self._clock.now() - began

    async def _behind(
        self, breaker: Breaker, upstream: Upstream, call: Passing, headers: CIMultiDict[str]
    ) -> Answer:
        permit = breaker.admit(self._clock.now())
        if permit is None:
            seconds = max(1, round(breaker.retry_after(self._clock.now())))
            raise out_of_capacity("The upstream is failing and left alone.", retry_after=seconds)
        good: bool | None = None
        try:
            answer = await self._tried(upstream, call, headers)
            good = answer.status < _SERVER_ERROR
        except Refused as error:
            good = None if error.status.value < _SERVER_ERROR else False
            raise
        finally:
            breaker.ended(permit, good=good, now=self._clock.now())
        return answer

    def _tried(
        self, upstream: Upstream, call: Passing, headers: CIMultiDict[str]
    ) -> Awaitable[Answer]:
        """Begin one of the ways, which is gone once it is awaited."""
        if upstream.function is not None:
            return self._invoked(upstream.function, call, headers)
        route, method = call.route, call.head.method
        repeating = None if call.upgrades else route.policies.repeating
        if repeating is not None and method in repeating.methods:
            return self._repeated(upstream, repeating, call, headers)
        return self._proxy.pass_on(
            upstream,
            method,
            route.forwarded(call.head.path, upstream),
            call.query,
            headers=headers,
            body=call.body,
            seconds=route.timeout,
            upgrade=call.upgrades,
        )

    async def _repeated(
        self,
        upstream: Upstream,
        repeating: Repeating,
        call: Passing,
        headers: CIMultiDict[str],
    ) -> Answer:
        """Send a request until it is answered well, or may not be sent again."""
        body = await call.whole()
        route, method, now = call.route, call.head.method, self._clock.now
        percent = repeating.budget_percent
        budget = self._budgets.of((upstream.name, percent), lambda: Budget(percent))
        budget.request(now())
        end, tried = now() + route.timeout, 0
        path = route.forwarded(call.head.path, upstream)
        while True:
            left = max(0.0, end - now())
            seconds = min(left, repeating.per_try or left)
            tried += 1
            exchange: Exchange | None = None
            failure: UpstreamError | None = None
            try:
                exchange = await self._proxy.exchange(
                    upstream, method, path, call.query,
                    headers=headers, body=body, seconds=seconds,
                )  # fmt: skip
            except UpstreamError as error:
                failure = error
            again = (
                now() < end
                and repeating.again(
                    method, _outcome(exchange, failure), tried, retry_after=_later(exchange)
                )
                and budget.take(now())
            )
            if not again:
                if exchange is not None:
                    return answered(exchange, route.timeout)
                raise refused(failure or NoConnection(upstream.name), route.timeout)
            if exchange is not None:
                exchange.close()
            await asyncio.sleep(min(wait(tried, _dice()), max(0.0, end - now())))

    async def _invoked(self, function: str, call: Passing, headers: CIMultiDict[str]) -> Answer:
        whole = await call.whole()
        head, route = call.head, call.route
        asked = Call(
            request_id=call.id,
            api=route.product,
            route=f"{head.method} {route.template}",
            method=head.method,
            path=head.path.text,
            query=call.query,
            parameters=route.parameters(head.path),
            headers=headers,
            host=headers["X-Forwarded-Host"],
            peer=head.peer,
            protocol=head.protocol,
            at_ns=call.at_ns,
            consumer=call.caller.consumer,
            plan=call.terms.plan,
            body=whole,
        )
        return await self._invoker.invoke(function, asked, timeout=route.timeout)

    async def _copied(self, call: Passing, target: Target, headers: CIMultiDict[str]) -> None:
        """Send a copy of the request to the mirror, if it is its turn; nobody waits for it."""
        mirror = target.mirror
        if mirror is None or not copied(mirror.percent, _dice()) or self._background.full:
            return
        body = await call.whole()
        copy = self._copy(mirror.upstream, call, headers.copy(), body)
        self._background.spawn(copy, "gateway: mirror")

    async def _copy(
        self, upstream: Upstream, call: Passing, headers: CIMultiDict[str], body: bytes
    ) -> None:
        try:
            if upstream.function is not None:
                await self._invoked(upstream.function, call, headers)
                return
            path = call.route.forwarded(call.head.path, upstream)
            exchange = await self._proxy.exchange(
                upstream, call.head.method, path, call.query,
                headers=headers, body=body, seconds=call.route.timeout,
            )  # fmt: skip
            try:
                while await exchange.piece(call.route.timeout):
                    pass
            finally:
                exchange.close()
        except (UpstreamError, Refused) as error:
            logger.debug("mirror failed", extra={"cause": type(error).__name__})


def chosen(target: Target, call: Passing) -> Upstream:
    """Return which upstream of ``target`` a call goes to; the same one however often asked."""
    if target.split is None:
        return target.upstreams[0]
    who = f"{call.caller.consumer}/{call.caller.app}"
    if call.caller.method == "anonymous":
        who = call.head.peer
    return target.upstreams[target.split.choose(who, call.head.headers)]


def _outcome(exchange: Exchange | None, failure: UpstreamError | None) -> Outcome:
    if exchange is not None:
        return exchange.status
    if isinstance(failure, NoConnection):
        return "connect"
    if isinstance(failure, BrokenOff):
        return "reset"
    return HTTPStatus.GATEWAY_TIMEOUT.value if isinstance(failure, Late) else 502


def _later(exchange: Exchange | None) -> str | None:
    fields = () if exchange is None else exchange.fields
    return next((value for name, value in fields if name.lower() == "retry-after"), None)
