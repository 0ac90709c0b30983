"""The event that a function gets for a request to its URL: payload format 2.0. Pure.

Source: AWS Lambda Developer Guide, "Request and response payloads" of function URLs.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from faas.urls.address import Door, domain

_TEXT = re.compile(
    r"text/[^;\s]+|application/(?:[^;\s]+\+)?(?:json|xml)|application/javascript", re.IGNORECASE
)
_NOT_HANDED_ON = frozenset(
    {
        "authorization",
        "connection",
        "cookie",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amz-security-token",
    }
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked.

    Attributes:
        address: Where from.
        key: Id of the access key; empty: nobody in particular.
        arn: Of who signed; empty: nobody in particular.
        account: 12 digits.
    """

    address: str
    key: str = ""
    arn: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """A request to a function URL.

    Attributes:
        door: Where it goes.
        query: Percent-encoded as it came.
        headers: By name in lower case; several of one name joined by commas.
        scheme: ``http`` or ``https``.
        port: Where it came in.
    """

    door: Door
    method: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    caller: Caller
    scheme: str = "http"
    port: int = 0


def event(asking: Asking, *, request_id: str, region: str, unix_ms: int) -> bytes:
    """Return the event as JSON.

    Args:
        asking: The request.
        request_id: UUID of the invocation.
        region: For the domain's name.
        unix_ms: When the request came, in milliseconds since the epoch.
    """
    headers = {name: value for name, value in asking.headers.items() if name not in _NOT_HANDED_ON}
    found: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": asking.door.path,
        "rawQueryString": asking.query,
        "headers": headers | _forwarded(asking),
        "requestContext": _context(asking, request_id, region, unix_ms),
    }
    cookies = [each.strip() for each in asking.headers.get("cookie", "").split(";")]
    if any(cookies):
        found["cookies"] = [each for each in cookies if each]
    if asking.query:
        found["queryStringParameters"] = _parameters(asking.query)
    text = _text(asking)
    if asking.body:
        found["body"] = base64.b64encode(asking.body).decode() if text is None else text
    found["isBase64Encoded"] = bool(asking.body) and text is None
    return json.dumps(found, separators=(",", ":")).encode()


def _context(asking: Asking, request_id: str, region: str, unix_ms: int) -> dict[str, Any]:
    at = datetime.fromtimestamp(unix_ms / 1000, UTC)
    context: dict[str, Any] = {
        "accountId": asking.caller.account or "anonymous",
        "apiId": asking.door.id,
        "domainName": domain(asking.door.id, region),
        "domainPrefix": asking.door.id,
        "http": {
            "method": asking.method,
            "path": asking.door.path,
            "protocol": "HTTP/1.1",
            "sourceIp": asking.caller.address,
            "userAgent": asking.headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": unix_ms,
    }
    if asking.caller.arn:
        context["authentication"] = None
        context["authorizer"] = {
            "iam": {
                "accessKey": asking.caller.key,
                "accountId": asking.caller.account,
                "callerId": asking.caller.key,
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": asking.caller.arn,
                "userId": asking.caller.key,
            }
        }
    return context


def _forwarded(asking: Asking) -> dict[str, str]:
    before = asking.headers.get("x-forwarded-for", "")
    address = asking.caller.address
    return {
        "x-forwarded-for": f"{before}, {address}" if before else address,
        "x-forwarded-port": str(asking.port),
        "x-forwarded-proto": asking.scheme,
    }


def _parameters(query: str) -> dict[str, str]:
    """Return the query's values by name; several of one name are joined by commas."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _text(asking: Asking) -> str | None:
    """Return the body as text, None when it travels as base64."""
    if not _TEXT.match(asking.headers.get("content-type", "")):
        return None
    try:
        return asking.body.decode()
    except UnicodeDecodeError:
        return None
