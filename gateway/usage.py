"""What was used, by whom, of what: the record that bills and reports are made from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

LOG = "usage"
"""Name of the Store's log that holds usage."""

REQUESTS = "requests"
"""The meter that counts API calls."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One use of one meter.

    Attributes:
        id: Idempotency key: a log holds it once, however often it is written.
        at: Unix nanoseconds when the use was let through.
        consumer: Who pays.
        product: What was used.
        meter: What is counted.
        amount: How much; at least 0.
        labels: Say more, for reports.
    """

    id: str
    at: int
    consumer: str
    product: str
    meter: str
    amount: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the event's body; the id travels beside it."""
        return json.dumps(
            {
                "at": self.at,
                "consumer": self.consumer,
                "product": self.product,
                "meter": self.meter,
                "amount": self.amount,
                "labels": dict(self.labels),
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, each: str, body: bytes) -> "Usage":
        """Read the event with id ``each``.

        Raises:
            ValueError: The body is not what `encode` writes.
        """
        try:
            read = json.loads(body)
            return cls(
                each,
                int(read["at"]),
                str(read["consumer"]),
                str(read["product"]),
                str(read["meter"]),
                int(read["amount"]),
                {str(name): str(value) for name, value in read["labels"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"usage {each!r}: {error}, expected a usage event") from None
