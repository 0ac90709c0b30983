"""The OpenAPI document of the admin API, made of its endpoints and of the models.

Source: https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic.json_schema import models_json_schema

from gateway.admin.access import NewToken
from gateway.admin.endpoint import Endpoint
from gateway.problem import CONTENT_TYPE
from wherry.config.stored import KINDS

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"\{([^}]+)\}")

_PROBLEM: Mapping[str, object] = {
    "type": "object",
    "description": "A problem document, by RFC 9457.",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}

_REFUSAL: Mapping[str, object] = {
    "description": "It was refused; the problem says why.",
    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(endpoints: Sequence[Endpoint], *, version: str) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of ``endpoints``.

    Args:
        endpoints: Every operation.
        version: Of this program.
    """
    paths: dict[str, dict[str, object]] = {}
    schemas = {**_schemas(), "Problem": _PROBLEM}
    for endpoint in endpoints:
        operation = _lifted(_operation(endpoint), schemas)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Wherry admin API",
            "version": version,
            "description": "The catalogue of the API gateway: products, plans, consumers, "
            "subscriptions; keys, usage and money. Resources that files declare are shown, and "
            "changed in their files only.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Refusal": _REFUSAL},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made with ``wherry admin token create NAME --role ROLE``.",
                }
            },
        },
    }


def _schemas() -> Mapping[str, object]:
    models: Iterable[type] = (*KINDS.values(), NewToken)
    _, schema = models_json_schema(
        [(model, "validation") for model in models],
        by_alias=True,
        ref_template=_REF,
    )
    found = schema["$defs"]
    if not isinstance(found, Mapping):
        raise TypeError("schemas: expected a mapping of models")
    return found


def _lifted(value: object, schemas: dict[str, object]) -> object:
    """Return ``value`` with the definitions inside its schemas moved to ``schemas``.

    Raises:
        ValueError: Two different schemas have one name.
    """
    match value:
        case Mapping():
            for name, schema in value.get("$defs", {}).items():
                found = _lifted(schema, schemas)
                if schemas.setdefault(name, found) != found:
                    raise ValueError(f"schema {name!r}: two of them, expected a name for each")
            kept = {name: _lifted(each, schemas) for name, each in value.items() if name != "$defs"}
            ref = kept.get("$ref")
            if isinstance(ref, str):
                kept["$ref"] = ref.replace("#/$defs/", "#/components/schemas/")
            return kept
        case list() | tuple():
            return [_lifted(each, schemas) for each in value]
        case _:
            return value


def _operation(endpoint: Endpoint) -> Mapping[str, object]:
    operation = dict(endpoint.operation)
    given = operation.get("parameters")
    parameters = list(given) if isinstance(given, Sequence) else []
    known = {each["name"] for each in parameters if isinstance(each, Mapping) and "name" in each}
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": _segment()}
        for name in _PARAMETER.findall(endpoint.path)
        if name not in known
    ]
    if parameters:
        operation["parameters"] = parameters
    responses = operation.get("responses")
    operation["responses"] = {
        **(responses if isinstance(responses, Mapping) else {"200": {"description": "Done."}}),
        "default": {"$ref": "#/components/responses/Refusal"},
    }
    if endpoint.role is None:
        operation["security"] = []
    else:
        role = endpoint.role.name.lower()
        operation["description"] = f"Needs the role {role}. {operation.get('description', '')}"
    return operation


def _segment() -> Mapping[str, object]:
    return {"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[A-Za-z0-9._~-]+$"}
