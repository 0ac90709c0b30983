"""OpenAPI objects that the descriptions of our own endpoints are made of.

Source: https://spec.openapis.org/oas/v3.1.1.html#operation-object
"""

from collections.abc import Mapping

Object = Mapping[str, object]

TEXT: Object = {"type": "string"}
MOMENT: Object = {"type": "string", "format": "date-time"}
MAYBE_MOMENT: Object = {"type": ["string", "null"], "format": "date-time"}


def ref(schema: str) -> Object:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{schema}"}


def body(schema: Object, description: str = "What was asked for.") -> Object:
    """Return a response of JSON."""
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


def items(item: Object) -> Object:
    """Return the schema of a list, or of one page of it; ``next`` says where the next begins."""
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": item},
            "next": {"type": "string", "description": "Says where the next page begins."},
        },
    }
