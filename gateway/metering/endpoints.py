"""Usage in the admin API: sums, plots, single events out and in."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from gateway.admin import asked
from gateway.admin.endpoint import NOTE, CurrentWorld, Endpoint, Role
from gateway.days import written
from gateway.metering import cloudevent, described, rollup
from gateway.metering.batch import BadBatch, uses
from gateway.metering.cloudevent import Unusable, moment_ns
from gateway.metering.ingest import ingest, parsed
from gateway.metering.rollup import Level, UsageGone
from gateway.problem import Refused
from gateway.usage import LOG, REQUESTS
from wherry.clock import Clock
from wherry.store import Event, Store

logger = logging.getLogger(__name__)

MOST_BYTES = 4 << 20
"""Most bytes of reported events in one request."""

MOST_EXPORTED = 10_000
"""Events after which a page of an export ends, with the batch that it has come to."""

_BATCHES = 32


def endpoints(store: Store, world: CurrentWorld, clock: Clock) -> list[Endpoint]:
    """Return the operations of usage.

    Args:
        store: Holds the log and the rollups.
        world: Says who there is.
        clock: Where the time is read.
    """
    usage = _Usage(store, world, clock)
    return [
        Endpoint("GET", "/v1/usage", Role.VIEWER, usage.sums, described.SUMS),
        Endpoint("POST", "/v1/usage", Role.EDITOR, usage.report, described.REPORT, MOST_BYTES),
        Endpoint("GET", "/v1/usage/events", Role.VIEWER, usage.export, described.EXPORT),
    ]


class _Usage:
    """Answers requests."""

    def __init__(self, store: Store, world: CurrentWorld, clock: Clock) -> None:
        self._store, self._world, self._clock = store, world, clock

    async def sums(self, request: web.Request) -> web.StreamResponse:
        given = asked.query(request, "consumer", "product", "begins", "ends", "step", "meter")
        begins = asked.parameter(request, "begins", _moment(0))
        ends = asked.parameter(request, "ends", _moment(self._clock.unix_ns()))
        if begins > ends:
            raise Refused(HTTPStatus.BAD_REQUEST, "begins is after ends, expected it before.")
        consumer, product = given.get("consumer"), given.get("product")
        step = asked.parameter(request, "step", _STEPS.__getitem__)
        between = {"begins": written(begins), "ends": written(ends)}
        try:
            if step is not None:
                found = await rollup.series(
                    self._store,
                    consumer=consumer,
                    product=product,
                    meter=given.get("meter", REQUESTS),
                    begins_ns=begins,
                    ends_ns=ends,
                    step=step,
                )
                points = [{"at": written(at_ns), **value._asdict()} for at_ns, value in found]
                return web.json_response({**between, "points": points})
            sums = await rollup.used(
                self._store, consumer=consumer, product=product, begins_ns=begins, ends_ns=ends
            )
        except (UsageGone, ValueError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{error}.") from None
        meter = given.get("meter")
        items = [
            {**key._asdict(), **value._asdict()}
            for key, value in sorted(sums.items())
            if meter in (None, key.meter)
        ]
        return web.json_response({**between, "items": items})

    async def report(self, request: web.Request) -> web.StreamResponse:
        if request.content_type not in (cloudevent.ONE, cloudevent.MANY):
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"The body is not {cloudevent.ONE} or {cloudevent.MANY}.",
                headers={"Accept-Post": f"{cloudevent.ONE}, {cloudevent.MANY}"},
            )
        try:
            events = parsed(await request.read())
            taken = await ingest(self._store, self._world(), events, self._clock.unix_ns())
        except Unusable as error:
            place = {"pointer": f"#{error.place}", "found": error.found, "expected": error.expected}
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"No event was taken: {error}.",
                members={"errors": [place]},
            ) from None
        request[NOTE] = ("usage", None, taken._asdict())
        return web.json_response(taken._asdict())

    async def export(self, request: web.Request) -> web.StreamResponse:
        asked.query(request, "after")
        after = asked.parameter(request, "after", _AFTER)
        found: list[Mapping[str, object]] = []
        while len(found) < MOST_EXPORTED:
            events = await self._store.read(LOG, after, limit=_BATCHES)
            for event in events:
                found += _documents(event)
                after = event.offset
                if len(found) >= MOST_EXPORTED:
                    break
            if len(events) < _BATCHES:
                break
        return web.json_response(
            found, content_type=cloudevent.MANY, headers={"Usage-After": str(after)}
        )


def _documents(event: Event) -> list[Mapping[str, object]]:
    try:
        return [cloudevent.document(usage) for usage in uses(event.body)]
    except BadBatch:
        logger.exception("an event of the usage log is no batch", extra={"offset": event.offset})
        return []


def _moment(otherwise: int) -> Callable[[str | None], int]:
    """Return a reader of a time; Unix nanoseconds, ``otherwise`` when it is absent."""
    return lambda text: otherwise if text is None else moment_ns(text)


_STEPS = {None: None, "minute": Level.MINUTE, "hour": Level.HOUR, "day": Level.DAY}
_AFTER = asked.number(0, 10**18 - 1, 0)
