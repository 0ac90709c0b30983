"""Refusals that a client's program can read.

Source: RFC 9457
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from wherry.errors import WherryError

CONTENT_TYPE = "application/problem+json"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"

_NOTHING: Mapping[str, str] = {}


class Refused(WherryError):
    """A request that the gateway answers itself.

    Attributes:
        status: The HTTP status.
        detail: One sentence for people, without keys or data of the body.
        kind: URI of a registered problem type; None is ``about:blank``, the status itself.
        title: The registered type's title, or the status' phrase.
        headers: Go with the answer.
        members: More members of the document.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        kind: tuple[str, str] | None = None,
        headers: Mapping[str, str] = _NOTHING,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.kind = kind[0] if kind else None
        self.title = kind[1] if kind else status.phrase
        self.headers = headers
        self.members = members or {}

    def body(self) -> bytes:
        """Return the problem document."""
        document: dict[str, object] = {} if self.kind is None else {"type": self.kind}
        document |= {
            "title": self.title,
            "status": self.status.value,
            "detail": self.detail,
        }
        return json.dumps(document | dict(self.members)).encode()


def over_quota(policy: str, detail: str, headers: Mapping[str, str]) -> Refused:
    """Return the refusal of a request over its rate.

    Args:
        policy: Name in the ``RateLimit-Policy`` field.
        detail: One sentence for people.
        headers: The rate limit fields and ``Retry-After``.

    Source: draft-ietf-httpapi-ratelimit-headers, problem types
    """
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        detail,
        kind=(
            QUOTA_EXCEEDED,
            "Request cannot be satisfied as assigned quota has been exceeded",
        ),
        headers=headers,
        members={"violated-policies": [policy]},
    )


def out_of_capacity(detail: str, *, retry_after: int = 1) -> Refused:
    """Return the refusal of a request that may pass in ``retry_after`` seconds (>= 1).

    Source: draft-ietf-httpapi-ratelimit-headers, problem types
    """
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail,
        kind=(
            REDUCED_CAPACITY,
            "Request cannot be satisfied due to temporary server capacity constraints",
        ),
        headers={"Retry-After": str(retry_after)},
    )
