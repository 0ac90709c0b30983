"""HTTP requests as function events, and function results as HTTP answers.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
http-api-develop-integrations-lambda.html (payload format version 2.0)
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_plus

from multidict import CIMultiDict

from gateway.call import FRAMING, Answer, Fields
from gateway.cookies import sets_ours
from gateway.fields import readable
from wherry.errors import WherryError

_TEXT = re.compile(
    r"text/.*|application/(.*\+)?(json|xml)|application/(javascript|ecmascript|graphql)",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS = re.compile(r"[0-9]{3}", re.ASCII)


class BadAnswer(WherryError):
    """A function returned what is no HTTP answer."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"function answer: {found}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Call:
    """A request on its way to a function.

    Attributes:
        request_id: Unique per request.
        api: Name of the product.
        route: Method and path template, like ``GET /users/{id}``.
        method: As sent.
        path: In its one spelling.
        query: Raw, without the key.
        parameters: What the template's variables stand for.
        headers: Without the key, with the forwarded ones.
        host: What the client called.
        peer: The client's address.
        protocol: Like ``HTTP/1.1``.
        at_ns: Unix nanoseconds.
        consumer: Who calls.
        plan: Under which plan.
        body: The whole of it.
    """

    request_id: str
    api: str
    route: str
    method: str
    path: str
    query: str
    parameters: Mapping[str, str]
    headers: Fields
    host: str
    peer: str
    protocol: str
    at_ns: int
    consumer: str
    plan: str
    body: bytes


def encoded(call: Call) -> bytes:
    """Return the event, as JSON."""
    event: dict[str, object] = {
        "version": "2.0",
        "routeKey": call.route,
        "rawPath": call.path,
        "rawQueryString": call.query,
        "headers": _joined(call.headers),
        "requestContext": _context(call),
        "isBase64Encoded": False,
    }
    if cookies := [
        readable(c.strip()) for line in call.headers.getall("cookie", ()) for c in line.split(";")
    ]:
        event["cookies"] = cookies
    if call.query:
        event["queryStringParameters"] = _parameters(call.query)
    if call.parameters:
        event["pathParameters"] = dict(call.parameters)
    if call.body:
        text = _text(call)
        event["isBase64Encoded"] = text is None
        event["body"] = b64encode(call.body).decode() if text is None else text
    return json.dumps(event, separators=(",", ":")).encode()


def answered(payload: bytes) -> Answer:
    """Return the answer that a function's result stands for.

    A JSON object with ``statusCode`` says all of it; any other JSON is the body of a 200.

    Raises:
        BadAnswer: The result is neither.
    """
    try:
        result = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadAnswer("no JSON", "JSON") from None
    if not isinstance(result, dict) or "statusCode" not in result:
        return Answer(200, CIMultiDict({"Content-Type": "application/json"}), payload)
    headers = _headers(result.get("headers") or {}, result.get("cookies") or [])
    body = _body(result.get("body"), encoded=result.get("isBase64Encoded") is True)
    if body and "content-type" not in headers:
        headers["Content-Type"] = "application/json"
    return Answer(_status(result["statusCode"]), headers, body)


def _context(call: Call) -> dict[str, object]:
    at = datetime.fromtimestamp(call.at_ns // 10**9, UTC)
    return {
        "accountId": "000000000000",
        "apiId": call.api,
        "authorizer": {"lambda": {"consumer": call.consumer, "plan": call.plan}},
        "domainName": call.host,
        "domainPrefix": call.host.partition(".")[0],
        "http": {
            "method": call.method,
            "path": call.path,
            "protocol": call.protocol,
            "sourceIp": call.peer,
            "userAgent": readable(call.headers.get("user-agent", "")),
        },
        "requestId": call.request_id,
        "routeKey": call.route,
        "stage": "$default",
        "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": call.at_ns // 10**6,
    }


def _joined(headers: Fields) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower != "cookie":
            told = readable(value)
            joined[lower] = f"{joined[lower]},{told}" if lower in joined else told
    return joined


def _parameters(query: str) -> dict[str, str]:
    joined: dict[str, str] = {}
    for part in query.split("&"):
        if part:
            name, _, value = map(unquote_plus, part.partition("="))
            joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _text(call: Call) -> str | None:
    kind = call.headers.get("content-type", "").partition(";")[0].strip()
    if not _TEXT.fullmatch(kind) or "content-encoding" in call.headers:
        return None
    try:
        return call.body.decode()
    except UnicodeDecodeError:
        return None


def _status(given: object) -> int:
    if isinstance(given, str) and _STATUS.fullmatch(given):
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 200 <= given <= 599:  # noqa: PLR2004
        raise BadAnswer("statusCode", "a number of 200 to 599")
    return given


def _headers(given: object, cookies: object) -> CIMultiDict[str]:
    if not isinstance(given, dict) or not isinstance(cookies, list):
        raise BadAnswer("headers or cookies", "an object and a list")
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in [*given.items(), *(("Set-Cookie", cookie) for cookie in cookies)]:
        text = json.dumps(value) if isinstance(value, bool | int | float) else value
        if not isinstance(text, str) or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(text):
            raise BadAnswer("a header", "a name and a value that HTTP can carry")
        lower = name.lower()
        if lower not in FRAMING and not (lower == "set-cookie" and sets_ours(text)):
            headers.add(name, text)
    return headers


def _body(given: object, *, encoded: bool) -> bytes:
    if given is None:
        return b""
    if not isinstance(given, str):
        raise BadAnswer("body", "text")
    try:
        return b64decode(given, validate=True) if encoded else given.encode()
    except ValueError:
        raise BadAnswer("body", "base64 when isBase64Encoded says so, else text") from None
