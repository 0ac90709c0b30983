"""Reading requests to the Lambda API: names, numbers and bodies, bounded and checked."""

import base64
import binascii
import json
import re

from aiohttp import web

from faas.lambda_errors import InvalidParameter, InvalidRequestContent, RequestTooLarge
from faas.lambda_shapes import Json
from faas.model.function import NAME, Reference

_NUMBER = re.compile(r"[0-9]{1,15}")


def number(request: web.Request, name: str, default: int) -> int:
    """Return a number of the query, ``default`` when it is not there.

    Raises:
        InvalidParameter: It is no number of at most 15 digits.
    """
    text = request.query.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise InvalidParameter(f"{name}: found {text[:20]!r}, expected a number of 0 to 10**15")
    return int(text)


def named(request: web.Request) -> Reference:
    """Return the function that the path and the qualifier name.

    Raises:
        InvalidParameter: They name none.
    """
    return reference(request.match_info["name"], request.query.get("Qualifier"))


def reference(text: str, qualifier: str | None) -> Reference:
    """Return the function that ``text`` names.

    Raises:
        InvalidParameter: It is neither a name nor an ARN, or has another qualifier.
    """
    found = Reference.parse(text, qualifier)
    if found is None:
        raise InvalidParameter(
            f"1 validation error detected: Value {text[:140]!r} at 'functionName' failed to "
            f"satisfy constraint: expected a name matching {NAME.pattern} or a function ARN, "
            "with at most one qualifier"
        )
    return found


def client_context(request: web.Request) -> str:
    """Return the client context as JSON on one line of ASCII, empty when there is none.

    It travels on in a header, where a line break would end it.

    Raises:
        InvalidRequestContent: It is not base64 of JSON.
    """
    text = request.headers.get("X-Amz-Client-Context", "")
    if not text:
        return ""
    try:
        return json.dumps(json.loads(base64.b64decode(text, validate=True)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidRequestContent(f"ClientContext is not base64 of JSON: {error}") from error


def checked(payload: bytes) -> bytes:
    """Return ``payload``, or an empty object when it is empty.

    Raises:
        InvalidRequestContent: It is not JSON.
    """
    if not payload:
        return b"{}"
    try:
        json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestContent(
            f"Could not parse request body into json: {str(error)[:200]}"
        ) from error
    return payload


async def json_object(request: web.Request, limit: int, operation: str) -> Json:
    """Return the JSON object in the body.

    Raises:
        RequestTooLarge: The body is over ``limit`` bytes.
        InvalidRequestContent: There is no JSON object in it.
    """
    body = await body_of(request, limit, operation)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestContent(
            f"Could not parse request body into json: {str(error)[:200]}"
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequestContent(f"{operation}: found no JSON object in the body, expected one")
    return value


async def body_of(request: web.Request, limit: int, operation: str) -> bytes:
    """Read the body; over ``limit`` bytes, refuse it without keeping it.

    Raises:
        RequestTooLarge: The body is over ``limit`` bytes.
    """
    if request.content_length is not None and request.content_length > limit:
        raise RequestTooLarge(limit, operation)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise RequestTooLarge(limit, operation)
    return bytes(body)
