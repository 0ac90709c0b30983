"""Usage in the admin API: sums, plots, single events out and in."""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

from aiohttp import web

from gateway.admin.endpoint import Endpoint, Role
from gateway.metering import cloudevent, rollup
from gateway.metering.batch import BadBatch, Key, Sum, uses
from gateway.metering.cloudevent import Unusable, moment_ns
from gateway.metering.ingest import MOST_EVENTS, Taken, ingest, parsed
from gateway.metering.rollup import Level, UsageGone
from gateway.problem import Refused
from gateway.usage import LOG, REQUESTS
from wherry.clock import Clock
from wherry.model.world import World
from wherry.store import Event, Store

logger = logging.getLogger(__name__)

MOST_BYTES = 4 << 20
"""Most bytes of reported events in one request."""

MOST_EXPORTED = 10_000
"""Events after which a page of an export ends, with the batch that it has come to."""

_BATCHES = 32
_DIGITS = 18

CurrentWorld = Callable[[], World]
"""Returns the configuration in force."""


def endpoints(store: Store, world: CurrentWorld, clock: Clock) -> list[Endpoint]:
    """Return the operations of usage.

    Args:
        store: Holds the log and the rollups.
        world: Says who there is.
        clock: Where the time is read.
    """
    usage = _Usage(store, world, clock)
    sums = {
        "operationId": "getUsage",
        "summary": "What was used, added up; with step, a series for plots",
        "tags": ["usage"],
        "parameters": [
            _parameter("consumer", "Only theirs"),
            _parameter("product", "Only of it"),
            _parameter("begins", "From here on; the beginning when absent", format="date-time"),
            _parameter("ends", "To before here; now when absent", format="date-time"),
            _parameter("step", "Of a series, in UTC", enum=["minute", "hour", "day"]),
            _parameter("meter", "Of a series; requests when absent"),
        ],
        "responses": {
            "200": {
                "description": "Items, or points when step was given",
                "content": {"application/json": {"schema": _sums_schema()}},
            }
        },
    }
    report = {
        "operationId": "reportUsage",
        "summary": "Count uses from elsewhere; an event that comes again counts once",
        "tags": ["usage"],
        "requestBody": {
            "required": True,
            "content": {
                cloudevent.ONE: {"schema": cloudevent.Reported.model_json_schema(by_alias=True)},
                cloudevent.MANY: {
                    "schema": {"type": "array", "minItems": 1, "maxItems": MOST_EVENTS}
                },
            },
        },
        "responses": {
            "200": {
                "description": "How many were new, and how many were known",
                "content": {"application/json": {"schema": _numbers(Taken._fields)}},
            },
            "422": {"description": "An event cannot be taken; none was"},
        },
    }
    export = {
        "operationId": "exportUsage",
        "summary": "Single uses as CloudEvents, in the order of the log",
        "tags": ["usage"],
        "parameters": [_parameter("after", "The Usage-After field of the page before; else 0")],
        "responses": {
            "200": {
                "description": "A page; an empty one is the end for now",
                "headers": {"Usage-After": {"schema": {"type": "integer"}}},
                "content": {cloudevent.MANY: {"schema": {"type": "array"}}},
            }
        },
    }
    return [
        Endpoint("GET", "/v1/usage", Role.VIEWER, usage.sums, sums),
        Endpoint("POST", "/v1/usage", Role.EDITOR, usage.report, report, MOST_BYTES),
        Endpoint("GET", "/v1/usage/events", Role.VIEWER, usage.export, export),
    ]


class _Usage:
    """Answers requests."""

    def __init__(self, store: Store, world: CurrentWorld, clock: Clock) -> None:
        self._store, self._world, self._clock = store, world, clock

    async def sums(self, request: web.Request) -> web.StreamResponse:
        asked = _only(request.query, {"consumer", "product", "begins", "ends", "step", "meter"})
        begins = _moment(asked, "begins", 0)
        ends = _moment(asked, "ends", self._clock.unix_ns())
        if begins > ends:
            raise _bad(f"begins {asked['begins']!r}, expected one before ends")
        consumer, product = asked.get("consumer"), asked.get("product")
        between = {"begins": cloudevent.written(begins), "ends": cloudevent.written(ends)}
        try:
            if "step" in asked:
                step = _step(asked["step"])
                found = await rollup.series(
                    self._store,
                    consumer=consumer,
                    product=product,
                    meter=asked.get("meter", REQUESTS),
                    begins_ns=begins,
                    ends_ns=ends,
                    step=step,
                )
                points = [
                    {"at": cloudevent.written(at_ns), **value._asdict()} for at_ns, value in found
                ]
                return web.json_response({**between, "points": points})
            sums = await rollup.used(
                self._store, consumer=consumer, product=product, begins_ns=begins, ends_ns=ends
            )
        except (UsageGone, ValueError) as error:
            raise _bad(str(error)) from None
        meter = asked.get("meter")
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
        return web.json_response(taken._asdict())

    async def export(self, request: web.Request) -> web.StreamResponse:
        asked = _only(request.query, {"after"})
        after = _number(asked, "after", 0)
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


def _only(query: Mapping[str, str], known: frozenset[str] | set[str]) -> Mapping[str, str]:
    for name in query:
        if name not in known:
            raise _bad(f"parameter {name[:80]!r}, expected one of {', '.join(sorted(known))}")
    return query


def _moment(asked: Mapping[str, str], name: str, otherwise: int) -> int:
    if name not in asked:
        return otherwise
    try:
        return moment_ns(asked[name])
    except ValueError as error:
        raise _bad(f"{name}: {error}") from None


def _step(text: str) -> Level:
    try:
        return {"minute": Level.MINUTE, "hour": Level.HOUR, "day": Level.DAY}[text]
    except KeyError:
        raise _bad(f"step {text[:80]!r}, expected minute, hour or day") from None


def _number(asked: Mapping[str, str], name: str, otherwise: int) -> int:
    text = asked.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise _bad(f"{name} {text[:80]!r}, expected a number of the page before")
    return int(text)


def _bad(detail: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, f"{detail[:1].upper()}{detail[1:]}.")


def _numbers(names: Iterable[str]) -> Mapping[str, object]:
    properties = {name: {"type": "integer", "minimum": 0} for name in names}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _sums_schema() -> Mapping[str, object]:
    moment = {"type": "string", "format": "date-time"}
    texts = {name: {"type": "string"} for name in Key._fields}
    sums = _numbers(Sum._fields)
    return {
        "type": "object",
        "required": ["begins", "ends"],
        "properties": {
            "begins": moment,
            "ends": moment,
            "items": {
                "type": "array",
                "items": {"allOf": [sums, {"properties": texts, "required": list(texts)}]},
            },
            "points": {
                "type": "array",
                "items": {"allOf": [sums, {"properties": {"at": moment}, "required": ["at"]}]},
            },
        },
    }


def _parameter(name: str, description: str, **schema: object) -> Mapping[str, object]:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", **schema},
    }
