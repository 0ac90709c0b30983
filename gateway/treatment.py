"""What a route's policies do to a call between its limits and its upstream, and on the way back."""

import logging
from dataclasses import replace
from http import HTTPStatus

from multidict import CIMultiDict

from gateway.call import Answer
from gateway.passage import Passage, chosen
from gateway.passing import Passing
from gateway.pieces import Kept, closed, gathered
from gateway.problem import Refused
from gateway.tasks import Background
from gateway.traffic.cache.asked import Asked
from gateway.traffic.cache.caching import Caching
from gateway.traffic.cache.kept import Cache
from gateway.traffic.cache.outcome import Forward, Hit, Keep
from gateway.traffic.meters import MOST_BODY, Measured, Meters
from gateway.traffic.openapi.contract import Contract
from gateway.traffic.transform import Transformer, forget_body
from gateway.traffic.words import Facts
from wherry.clock import Clock
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

MAX_CHANGED = 8 << 20
"""Most bytes of an answer that is changed or held against a document."""


class Treatment:
    """Takes calls to upstreams as their routes' policies say.

    Args:
        passage: To the upstreams.
        cache: Kept answers.
        clock: Where the time is read.
        background: Asks again for kept answers that are still given out.
    """

    def __init__(
        self, passage: Passage, cache: Cache, clock: Clock, background: Background
    ) -> None:
        self._passage, self._cache = passage, cache
        self._clock, self._background = clock, background

    async def go(self, call: Passing, headers: CIMultiDict[str]) -> Answer:
        """Return the answer to ``call``.

        Args:
            call: What to take to its upstream.
            headers: As the upstream gets them; changed.

        Raises:
            Refused: There is none.
        """
        caching = call.route.policies.caching
        if caching is None or call.upgrades:
            return await self._changed(call, headers)
        asked = Asked(
            call.head,
            call.route.product,
            call.caller,
            call.route.authentication.secret_fields,
            _variant(call),
        )
        found = caching.look(self._cache, asked, self._now())
        if isinstance(found, Hit):
            if found.refresh is not None and self._background.full:
                self._cache.refreshed(found.refresh.place)
            elif found.refresh is not None:
                work = self._refreshed(call, headers, caching, found.refresh)
                self._background.spawn(work, "gateway: refresh a kept answer")
            return found.answer
        return await self._cached(call, headers, caching, found)

    async def _cached(
        self, call: Passing, headers: CIMultiDict[str], caching: Caching, forward: Forward
    ) -> Answer:
        forward.condition(headers)
        try:
            answer = await self._changed(call, headers)
        except Refused as error:
            stand_in = None
            if error.status.value >= HTTPStatus.INTERNAL_SERVER_ERROR:
                stand_in = caching.failed(forward, self._now())
            if stand_in is None:
                raise
            return stand_in
        found = caching.answered(self._cache, forward, answer.status, answer.headers, self._now())
        if isinstance(found, Answer):
            await closed(answer)
            return found
        if isinstance(found, Keep):
            if isinstance(answer.body, bytes):
                caching.keep(self._cache, found, answer.body)
            else:
                answer.body = Kept(answer.body, caching, self._cache, found)
        return answer

    async def _refreshed(
        self, call: Passing, headers: CIMultiDict[str], caching: Caching, forward: Forward
    ) -> None:
        """Ask the upstream again for an answer that was given out stale."""
        again = replace(call, fields={}, amounts={})
        try:
            answer = await self._cached(again, headers, caching, forward)
            if not isinstance(answer.body, bytes):
                async for _ in answer.body:
                    pass
                await closed(answer)
        except WherryError as error:
            logger.debug("kept answer not refreshed", extra={"cause": type(error).__name__})
        finally:
            self._cache.refreshed(forward.place)

    async def _changed(self, call: Passing, headers: CIMultiDict[str]) -> Answer:
        """Change the request, take it to the upstream, and measure and change the answer."""
        policies = call.route.policies
        transformer = policies.transformer
        facts = None
        if transformer is not None:
            facts = _facts(call)
            await _request_changed(call, headers, transformer, facts)
        answer = await self._passage.go(call, headers)
        if policies.answers != "off" and call.route.contract is not None:
            await _held_against(call, answer, call.route.contract, policies.answers)
        if policies.meters is not None:
            await self._measured(call, answer, policies.meters)
        if transformer is not None and facts is not None:
            await _answer_changed(call, answer, transformer, facts)
        return answer

    async def _measured(self, call: Passing, answer: Answer, meters: Meters) -> None:
        body = None
        if meters.wants(answer.headers):
            body = await gathered(answer, MOST_BODY, call.route.timeout)
        found = meters.read(answer.headers, body, bytes_in=0, bytes_out=0, milliseconds=0)
        _count(call, found)

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9


def _variant(call: Passing) -> str:
    """Return all that an answer depends on beside its URI, its fields and the consumer."""
    route = call.route
    parts: list[object] = [route.template, sorted(route.methods), route.headers]
    if route.target.split is not None:
        parts.append(chosen(route.target, call).name)
    if route.policies.transformer is not None and (about := route.policies.transformer.about):
        facts = _facts(call)
        parts += [text.fill(facts) for text in about]
    return repr(parts)


def _facts(call: Passing) -> Facts:
    head, caller = call.head, call.caller
    return Facts(
        caller.consumer,
        caller.app,
        call.terms.plan,
        call.id,
        call.route.parameters(head.path),
        head.query,
        head.headers,
    )


async def _request_changed(
    call: Passing, headers: CIMultiDict[str], transformer: Transformer, facts: Facts
) -> None:
    change = transformer.request
    if change.wants(headers) and not call.body.empty:
        call.body.replace(change.body(await call.whole(), facts))
        forget_body(headers)
    if transformer.response.content is not None:
        headers["Accept-Encoding"] = "identity"
    call.query = change.query(call.query, facts)
    change.headers(headers, facts)


async def _answer_changed(
    call: Passing, answer: Answer, transformer: Transformer, facts: Facts
) -> None:
    change = transformer.response
    if change.wants(answer.headers) and call.head.method != "HEAD":
        body = await gathered(answer, MAX_CHANGED, call.route.timeout)
        if body is None:
            await closed(answer)
            raise Refused(HTTPStatus.BAD_GATEWAY, "The upstream's answer is too large to change.")
        if body:
            answer.body = change.body(body, facts)
            forget_body(answer.headers)
    change.headers(answer.headers, facts)


async def _held_against(call: Passing, answer: Answer, contract: Contract, refuses: str) -> None:
    """Hold an answer against the product's document.

    Raises:
        Refused: 502, it does not keep to it, and such answers are refused.
    """
    body = await gathered(answer, MAX_CHANGED, call.route.timeout)
    if body is None:
        logger.info("answer too large to look at", extra={"product": call.route.product})
        return
    head = call.head
    found = contract.response(head.method, head.path, answer.status, answer.headers, body)
    if not found:
        return
    call.flaws += ("document",)
    places = [each.where for each in found]
    seen = {"product": call.route.product, "operation": call.route.operation, "places": places}
    logger.warning("answer does not keep to the document", extra=seen)
    if refuses == "refuse":
        detail = "The upstream's answer does not keep to the API's document."
        raise Refused(HTTPStatus.BAD_GATEWAY, detail)


def _count(call: Passing, found: Measured) -> None:
    for meter, amount in found.amounts.items():
        call.amounts[meter] = call.amounts.get(meter, 0) + amount
    for meter in found.refused:
        call.flaws += ("amount",)
        logger.warning(
            "amount refused", extra={"product": call.route.product, "meter": meter, "call": call.id}
        )


def counted_at_end(call: Passing, meters: Meters, seconds: float) -> None:
    """Count what is only known once a call is over."""
    found = meters.read(
        CIMultiDict(),
        None,
        bytes_in=call.received,
        bytes_out=call.sent,
        milliseconds=int(seconds * 1000),
    )
    _count(call, found)
