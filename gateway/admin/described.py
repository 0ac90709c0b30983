"""OpenAPI operation objects of the endpoints that are ours.

Source: https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from collections.abc import Mapping

Object = Mapping[str, object]

_TITLES = {
    "ApiProduct": ("product", "products"),
    "Plan": ("plan", "plans"),
    "Consumer": ("consumer", "consumers"),
    "Subscription": ("subscription", "subscriptions"),
    "ApiGateway": ("gateway", "gateways"),
}


def ref(schema: str) -> Object:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{schema}"}


def body(schema: Object, description: str = "What was asked for.") -> Object:
    """Return a response, or with ``required`` added a request body, of JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def given(schema: Object) -> Object:
    """Return a request body of JSON."""
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def parameter(
    name: str, schema: Object, description: str, *, place: str = "query", required: bool = False
) -> Object:
    """Return a parameter object."""
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": schema,
    }


_ETAG: Object = {"ETag": {"description": "Of what there is now.", "schema": {"type": "string"}}}
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
                "responses": {"200": body(_page(_item(kind)))},
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


def _page(item: Object, *, cursor: str = "next") -> Object:
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": item},
            cursor: {"type": "string", "description": "Says where the next page begins."},
        },
    }


def _item(kind: str) -> Object:
    return {
        "type": "object",
        "required": ["name", "etag", "origin", "document"],
        "properties": {
            "name": {"type": "string"},
            "etag": {"type": "string"},
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
                    "kind": {"type": "string"},
                    "name": {"type": "string"},
                    "verb": {"enum": ["create", "update", "delete", "keep"]},
                    "differences": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["pointer", "before", "after"],
                            "properties": {
                                "pointer": {"type": "string"},
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
        "name": {"type": "string"},
        "role": {"enum": ["viewer", "editor", "owner"]},
        "created": {"type": "string", "format": "date-time"},
        "expires": {"type": ["string", "null"], "format": "date-time"},
        "token": {"type": "string", "description": "Shown once, when it is made."},
    },
}

TOKENS: Object = {
    "operationId": "listTokens",
    "summary": "List tokens of operators, without what is secret",
    "tags": ["access"],
    "parameters": [_LIMIT, _CURSOR],
    "responses": {"200": body(_page(_TOKEN))},
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
            _page(
                {
                    "type": "object",
                    "required": ["id", "time", "actor", "verb", "subject"],
                    "properties": {
                        "id": {"type": "string"},
                        "offset": {"type": "integer"},
                        "time": {"type": "string", "format": "date-time"},
                        "actor": {"type": "string"},
                        "verb": {"type": "string"},
                        "subject": {"type": "string"},
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
            "content": {"text/html": {"schema": {"type": "string"}}},
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
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
}
