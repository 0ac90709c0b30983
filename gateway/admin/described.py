"""OpenAPI operation objects of the catalogue, of access to it, and of the API itself.

Source: https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from gateway.admin.objects import (
    MAYBE_MOMENT,
    MOMENT,
    TEXT,
    Object,
    body,
    given,
    items,
    parameter,
    ref,
)

_TITLES = {
    "ApiProduct": ("product", "products"),
    "Plan": ("plan", "plans"),
    "Consumer": ("consumer", "consumers"),
    "Subscription": ("subscription", "subscriptions"),
    "ApiGateway": ("gateway", "gateways"),
}

_ETAG: Object = {"ETag": {"description": "Of what there is now.", "schema": TEXT}}
_LIMIT = parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "Most items of the page.",
)
_CURSOR = parameter(
    "cursor",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,1400}$"},
    "The page after this: ``next`` of the page before.",
)
_IF_MATCH = parameter(
    "If-Match",
    {"type": "string", "maxLength": 1000},
    "ETag with which it was read; needed to change what exists.",
    place="header",
)
_IF_NONE = parameter(
    "If-None-Match",
    {"type": "string", "maxLength": 1000},
    "``*``: only if it does not exist; for GET the ETag that the client has.",
    place="header",
)
_FLAG: Object = {"type": "boolean", "default": False}
_GONE: Object = {"204": {"description": "It is gone."}}


def of_kind(verb: str, kind: str) -> Object:
    """Return the operation ``list``, ``get``, ``put`` or ``delete`` on resources of ``kind``."""
    one, many = _TITLES[kind]
    match verb:
        case "list":
            return {
                "operationId": f"list{kind}s",
                "summary": f"List {many}, by name",
                "tags": [many],
                "parameters": [_LIMIT, _CURSOR],
                "responses": {"200": body(items(_item(kind)))},
            }
        case "get":
            return {
                "operationId": f"get{kind}",
                "summary": f"Read a {one}",
                "tags": [many],
                "parameters": [_IF_NONE],
                "responses": {
                    "200": {**body(ref(kind)), "headers": _ETAG},
                    "304": {"description": "The client has it.", "headers": _ETAG},
                },
            }
        case "put":
            return {
                "operationId": f"put{kind}",
                "summary": f"Make or change a {one}",
                "tags": [many],
                "parameters": [_IF_MATCH, _IF_NONE],
                "requestBody": given(ref(kind)),
                "responses": {
                    "200": {**body(ref(kind), "It is changed."), "headers": _ETAG},
                    "201": {**body(ref(kind), "It is made."), "headers": _ETAG},
                },
            }
        case _:
            return {
                "operationId": f"delete{kind}",
                "summary": f"Remove a {one} that nothing refers to",
                "tags": [many],
                "parameters": [_IF_MATCH],
                "responses": _GONE,
            }


def _item(kind: str) -> Object:
    return {
        "type": "object",
        "required": ["name", "etag", "origin", "document"],
        "properties": {
            "name": TEXT,
            "etag": TEXT,
            "origin": {
                "type": ["string", "null"],
                "description": "FILE:LINE that declares it; such are changed there only.",
            },
            "document": ref(kind),
        },
    }


_DOCUMENTS: Object = {
    "type": "object",
    "required": ["documents"],
    "additionalProperties": False,
    "properties": {
        "documents": {
            "type": "array",
            "maxItems": 10_000,
            "items": {"oneOf": [ref(kind) for kind in _TITLES]},
        }
    },
}

_CHANGES: Object = {
    "type": "object",
    "required": ["dryRun", "changes"],
    "properties": {
        "dryRun": {"type": "boolean"},
        "changes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind", "name", "verb", "differences"],
                "properties": {
                    "kind": TEXT,
                    "name": TEXT,
                    "verb": {"enum": ["create", "update", "delete", "keep"]},
                    "differences": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["pointer", "before", "after"],
                            "properties": {
                                "pointer": TEXT,
                                "before": {},
                                "after": {},
                            },
                        },
                    },
                },
            },
        },
    },
}

APPLY: Object = {
    "operationId": "apply",
    "summary": "Write many resources, all or none",
    "tags": ["catalogue"],
    "parameters": [
        parameter("prune", _FLAG, "Remove stored resources that are not among them."),
        parameter("dryRun", _FLAG, "Check and tell all, and write nothing."),
    ],
    "requestBody": given(_DOCUMENTS),
    "responses": {"200": body(_CHANGES)},
}

EXPORT: Object = {
    "operationId": "export",
    "summary": "Read every stored resource, as apply takes them",
    "tags": ["catalogue"],
    "parameters": [parameter("all", _FLAG, "Also those that files declare.")],
    "responses": {"200": body(_DOCUMENTS)},
}

_TOKEN: Object = {
    "type": "object",
    "required": ["name", "role", "created", "expires"],
    "properties": {
        "name": TEXT,
        "role": {"enum": ["viewer", "editor", "owner"]},
        "created": MOMENT,
        "expires": MAYBE_MOMENT,
        "token": {"type": "string", "description": "Shown once, when it is made."},
    },
}

TOKENS: Object = {
    "operationId": "listTokens",
    "summary": "List tokens of operators, without what is secret",
    "tags": ["access"],
    "parameters": [_LIMIT, _CURSOR],
    "responses": {"200": body(items(_TOKEN))},
}

NEW_TOKEN: Object = {
    "operationId": "createToken",
    "summary": "Make a token; its text is shown this once",
    "tags": ["access"],
    "requestBody": given(ref("NewToken")),
    "responses": {"201": body(_TOKEN)},
}

REVOKE: Object = {
    "operationId": "revokeToken",
    "summary": "Stop accepting a token, at once",
    "tags": ["access"],
    "responses": _GONE,
}

AUDIT: Object = {
    "operationId": "audit",
    "summary": "Who changed what, and when, oldest first",
    "tags": ["access"],
    "parameters": [
        _LIMIT,
        parameter(
            "after",
            {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "default": 0},
            "Only what came after it: ``next`` of the answer before.",
        ),
    ],
    "responses": {
        "200": body(
            items(
                {
                    "type": "object",
                    "required": ["id", "time", "actor", "verb", "subject"],
                    "properties": {
                        "id": TEXT,
                        "offset": {"type": "integer"},
                        "time": MOMENT,
                        "actor": TEXT,
                        "verb": TEXT,
                        "subject": TEXT,
                        "before": {},
                        "after": {},
                    },
                }
            )
        )
    },
}

DOCUMENT: Object = {
    "operationId": "openapi",
    "summary": "This document",
    "tags": ["about"],
    "responses": {"200": body({"type": "object"})},
}

PAGE: Object = {
    "operationId": "page",
    "summary": "A page for people that lists the operations",
    "tags": ["about"],
    "responses": {
        "200": {
            "description": "The page.",
            "content": {"text/html": {"schema": TEXT}},
        }
    },
}

HEALTH: Object = {
    "operationId": "health",
    "summary": "Whether requests are taken",
    "tags": ["about"],
    "responses": {
        "200": {
            "description": "They are.",
            "content": {"text/plain": {"schema": TEXT}},
        }
    },
}
