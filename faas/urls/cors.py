"""What pages of other origins may do with a function URL. Pure.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol; Lambda API, ``Cors``.
"""

from collections.abc import Mapping

from faas.model.url import Cors

_OURS = (
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
)


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether a browser asks what it may do; header names are in lower case."""
    return (
        method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers
    )


def preflight(cors: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that answer a preflight; those of a page that may nothing are bare."""
    said = _origin(cors, headers)
    wanted = headers.get("access-control-request-method", "")
    methods = cors.allow_methods or ("*",)
    if "access-control-allow-origin" not in said or not {"*", wanted} & set(methods):
        return {"vary": "Origin"}
    said["access-control-allow-methods"] = wanted if "*" in methods else ",".join(methods)
    asked = headers.get("access-control-request-headers", "")
    if cors.allow_headers:
        allowed = asked if "*" in cors.allow_headers and asked else ",".join(cors.allow_headers)
        said["access-control-allow-headers"] = allowed
    if cors.max_age:
        said["access-control-max-age"] = str(cors.max_age)
    return said


def response(cors: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a response to a page gets besides the function's."""
    said = _origin(cors, headers)
    if "access-control-allow-origin" in said and cors.expose_headers:
        said["access-control-expose-headers"] = ",".join(cors.expose_headers)
    return said


def merged(
    pairs: tuple[tuple[str, str], ...], cors: Cors | None, headers: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return a response's headers; with a configuration, it and not the function says CORS."""
    if cors is None or "origin" not in headers:
        return list(pairs)
    kept = [(name, value) for name, value in pairs if name.lower() not in _OURS]
    return [*kept, *response(cors, headers).items()]


def _origin(cors: Cors, headers: Mapping[str, str]) -> dict[str, str]:
    origin = headers.get("origin", "")
    said = {"vary": "Origin"}
    any_origin = "*" in cors.allow_origins
    if origin and (any_origin or origin in cors.allow_origins):
        plain = any_origin and not cors.allow_credentials
        said["access-control-allow-origin"] = "*" if plain else origin
        if cors.allow_credentials:
            said["access-control-allow-credentials"] = "true"
    return said
