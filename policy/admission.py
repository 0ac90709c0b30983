"""Who may use the API products that sidecars enforce: what the check service asks its house.

The products, their keys and their plans are the gateway's; whoever puts Wherry together gives
the check service an `Admission` that knows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from policy.engine import Check

USAGE_KEY = "usage"
"""Key of the dynamic metadata that holds `Admitted.usage`; the sidecar's access log tells it."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on.

    Attributes:
        product: Whose request it is.
        headers: Set on the request, in place of what the client sent under these names.
        removed: Header fields that are not sent on: they hold secrets, or what only we may say.
        target: Path and query that are sent on; None keeps those of the request.
        answer: Fields that go with the answer.
        usage: What the access log says of the request, in one line; empty is nothing.
    """

    product: str
    headers: Mapping[str, str] = field(default_factory=dict)
    removed: Sequence[str] = ()
    target: str | None = None
    answer: Mapping[str, str] = field(default_factory=dict)
    usage: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request that is answered here.

    Attributes:
        product: Whose request it is; empty when no product has it.
        status: Of the answer.
        headers: Of the answer.
        body: Of the answer.
        detail: The same for people, in one line; what clients of gRPC get.
    """

    product: str
    status: HTTPStatus
    headers: Mapping[str, str]
    body: str
    detail: str = ""


class Admission(Protocol):
    """Knows products, credentials and plans."""

    async def admit(self, check: Check) -> Admitted | Rejected:
        """Identify, authorise and throttle one request to a service that a product guards."""
        ...
