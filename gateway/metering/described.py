"""OpenAPI operation objects of usage.

Source: https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from collections.abc import Iterable

from gateway.admin.objects import MOMENT, TEXT, Object, body, parameter
from gateway.metering import cloudevent
from gateway.metering.batch import Key, Sum
from gateway.metering.ingest import MOST_EVENTS, Taken

_STEP: Object = {"type": "string", "enum": ["minute", "hour", "day"]}


def _numbers(names: Iterable[str]) -> Object:
    properties = {name: {"type": "integer", "minimum": 0} for name in names}
    return {"type": "object", "properties": properties, "required": list(properties)}


_KEYS = dict.fromkeys(Key._fields, TEXT)
_SUM = _numbers(Sum._fields)
_SUMS: Object = {
    "type": "object",
    "required": ["begins", "ends"],
    "properties": {
        "begins": MOMENT,
        "ends": MOMENT,
        "items": {
            "type": "array",
            "items": {"allOf": [_SUM, {"properties": _KEYS, "required": list(_KEYS)}]},
        },
        "points": {
            "type": "array",
            "items": {"allOf": [_SUM, {"properties": {"at": MOMENT}, "required": ["at"]}]},
        },
    },
}

SUMS: Object = {
    "operationId": "getUsage",
    "summary": "What was used, added up; with step, a series for plots",
    "tags": ["usage"],
    "parameters": [
        parameter("consumer", TEXT, "Only theirs."),
        parameter("product", TEXT, "Only of it."),
        parameter("begins", MOMENT, "From here on; the beginning when absent."),
        parameter("ends", MOMENT, "To before here; now when absent."),
        parameter("step", _STEP, "Of a series, in UTC."),
        parameter("meter", TEXT, "Of a series; requests when absent."),
    ],
    "responses": {"200": body(_SUMS, "Items, or points when step was given.")},
}

REPORT: Object = {
    "operationId": "reportUsage",
    "summary": "Count uses from elsewhere; an event that comes again counts once",
    "tags": ["usage"],
    "requestBody": {
        "required": True,
        "content": {
            cloudevent.ONE: {"schema": cloudevent.Reported.model_json_schema(by_alias=True)},
            cloudevent.MANY: {"schema": {"type": "array", "minItems": 1, "maxItems": MOST_EVENTS}},
        },
    },
    "responses": {
        "200": body(_numbers(Taken._fields), "How many were new, and how many were known."),
        "422": {"description": "An event cannot be taken; none was."},
    },
}

EXPORT: Object = {
    "operationId": "exportUsage",
    "summary": "Single uses as CloudEvents, in the order of the log",
    "tags": ["usage"],
    "parameters": [
        parameter("after", TEXT, "The Usage-After field of the page before; else 0."),
    ],
    "responses": {
        "200": {
            "description": "A page; an empty one is the end for now.",
            "headers": {"Usage-After": {"schema": {"type": "integer"}}},
            "content": {cloudevent.MANY: {"schema": {"type": "array"}}},
        }
    },
}
