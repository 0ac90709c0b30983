"""OpenAPI operation objects of billing.

Source: https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from gateway.admin.objects import TEXT, Object, body, given, items, parameter

_MONEY: Object = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
_MAYBE: Object = {"type": ["string", "null"]}
_MONTH: Object = {"type": "string", "pattern": "^2[01][0-9]{2}-(0[1-9]|1[0-2])$"}
_BY_CURRENCY: Object = {"type": "object", "additionalProperties": _MONEY}

_LINE: Object = {
    "type": "object",
    "required": ["kind", "product", "plan", "text", "amount"],
    "properties": {
        "kind": {"enum": ["setup", "recurring", "usage", "minimum", "correction"]},
        "product": TEXT,
        "app": _MAYBE,
        "plan": TEXT,
        "text": TEXT,
        "meter": _MAYBE,
        "quantity": {"type": ["integer", "null"]},
        "unit": _MAYBE,
        "amount": _MONEY,
    },
}

_INVOICE: Object = {
    "type": "object",
    "required": ["number", "issued", "consumer", "period", "currency", "lines", "total", "due"],
    "properties": {
        "number": {"type": "string", "description": "Eight digits, or draft."},
        "issued": {"type": "string", "format": "date"},
        "consumer": {
            "type": "object",
            "properties": {"name": TEXT, "title": TEXT, "email": _MAYBE},
        },
        "period": {
            "type": "object",
            "properties": {
                "month": _MONTH,
                "first": {"type": "string", "format": "date"},
                "last": {"type": "string", "format": "date"},
                "timezone": TEXT,
            },
        },
        "currency": TEXT,
        "lines": {"type": "array", "items": _LINE},
        "total": _MONEY,
        "credit": {**_MONEY, "description": "What of the total credit has paid."},
        "due": _MONEY,
        "parties": {
            "type": "array",
            "description": "Whom the owner owes a part.",
            "items": {
                "type": "object",
                "properties": {"product": TEXT, "plan": TEXT, "party": TEXT, "amount": _MONEY},
            },
        },
    },
}


INVOICES: Object = {
    "operationId": "listInvoices",
    "summary": "List invoices by number",
    "tags": ["billing"],
    "parameters": [
        parameter("consumer", TEXT, "Only theirs."),
        parameter("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Most of a page."),
        parameter(
            "cursor",
            {"type": "string", "pattern": "^[0-9]{1,8}$"},
            "The page after this: ``next`` of the page before.",
        ),
    ],
    "responses": {"200": body(items(_INVOICE))},
}

INVOICE: Object = {
    "operationId": "getInvoice",
    "summary": "Read an invoice as JSON, as a page or as a PDF",
    "tags": ["billing"],
    "parameters": [
        parameter("format", {"enum": ["json", "html", "pdf"]}, "Before what Accept says."),
    ],
    "responses": {
        "200": {
            "description": "The invoice.",
            "content": {
                "application/json": {"schema": _INVOICE},
                "text/html": {"schema": TEXT},
                "application/pdf": {"schema": {"type": "string", "contentEncoding": "binary"}},
            },
        }
    },
}

DRAFT: Object = {
    "operationId": "getDraft",
    "summary": "Read what the open month comes to so far, fees to its end included",
    "tags": ["billing"],
    "responses": {"200": body(items(_INVOICE))},
}

PREVIEW: Object = {
    "operationId": "previewPlan",
    "summary": "Compare what past months cost with what they would have cost under another plan",
    "tags": ["billing"],
    "parameters": [
        parameter("product", TEXT, "Of which the plan would change.", required=True),
        parameter("plan", TEXT, "The other plan.", required=True),
        parameter("months", {"type": "integer", "minimum": 1, "maximum": 24}, "How many."),
    ],
    "responses": {
        "200": body(
            items(
                {
                    "type": "object",
                    "required": ["month", "now", "then", "lines"],
                    "properties": {
                        "month": _MONTH,
                        "now": _BY_CURRENCY,
                        "then": _BY_CURRENCY,
                        "lines": {"type": "array", "items": {"type": "object"}},
                    },
                }
            )
        )
    },
}

_CREDIT: Object = {
    "type": "object",
    "required": ["balances", "unbilled", "entries"],
    "properties": {
        "balances": _BY_CURRENCY,
        "unbilled": _BY_CURRENCY,
        "entries": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": TEXT,
                    "atNs": {"type": "string", "pattern": "^[0-9]+$"},
                    "currency": TEXT,
                    "amount": _MONEY,
                    "reason": TEXT,
                    "by": TEXT,
                },
            },
        },
    },
}

CREDITS: Object = {
    "operationId": "getCredits",
    "summary": "Read a consumer's credit and how it came about",
    "tags": ["billing"],
    "responses": {"200": body(_CREDIT)},
}

NEW_CREDIT: Object = {
    "operationId": "addCredit",
    "summary": "Give a consumer credit, once for each id",
    "tags": ["billing"],
    "requestBody": given(
        {
            "type": "object",
            "required": ["amount", "currency", "reason"],
            "additionalProperties": False,
            "properties": {
                "id": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
                "amount": {"type": "string", "maxLength": 40},
                "currency": {"type": "string", "maxLength": 40},
                "reason": {"type": "string", "minLength": 1, "maxLength": 500},
            },
        }
    ),
    "responses": {"200": body(_CREDIT)},
}

CLOSE: Object = {
    "operationId": "closeMonth",
    "summary": "Close a month that has ended and issue its invoices; again, it stays as it is",
    "tags": ["billing"],
    "requestBody": given(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {"month": {"type": ["string", "null"], "maxLength": 40}},
        }
    ),
    "responses": {"200": body(items(_INVOICE))},
}
