"""What was used, by whom, of what: the record that bills and reports are made from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

LOG = "usage"
"""Name of the Store's log that holds usage, in batches of `gateway.metering.batch`."""

REQUESTS = "requests"
"""The meter that every call counts."""

SERVER_ERROR = 500
"""First status that says that the fault was not the caller's."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Usage(NamedTuple):
    """One call, or one use that was counted elsewhere.

    Attributes:
        id: Idempotency key; it counts once, however often it is written.
        at_ns: Unix nanoseconds when the use was let through.
        consumer: Who pays.
        app: Of theirs.
        product: What was used.
        operation: Of the product; empty when there is none.
        plan: Of the subscription that let it through.
        credential: Public name of what the caller showed; empty when there was none.
        status: Of the answer, 499 when the client went away before; 0 when there was no HTTP.
        amounts: By meter, each at least 0.
        labels: Say more, for reports.
        refused: Whether the gateway itself answered, not the upstream.
    """

    id: str
    at_ns: int
    consumer: str
    app: str
    product: str
    operation: str
    plan: str
    credential: str
    status: int
    amounts: Mapping[str, int]
    labels: Mapping[str, str] = _NOTHING
    refused: bool = False

    @property
    def billed(self) -> bool:
        """Whether it counts on the invoice: not when the gateway refused or the upstream failed."""
        return not self.refused and self.status < SERVER_ERROR
