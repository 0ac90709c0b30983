"""A use as a CloudEvent: how usage leaves, and how uses counted elsewhere come in.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from gateway.days import written
from gateway.usage import Usage
from wherry.errors import WherryError
from wherry.model.amount import Meter
from wherry.model.resource import Name, Strict
from wherry.pointer import pointer_of

TYPE = "dev.wherry.usage.v1"
"""The CloudEvents type of a use."""

SOURCE = "/wherry/gateway"
"""The CloudEvents source of what the gateway counted itself."""

ONE = "application/cloudevents+json"
MANY = "application/cloudevents-batch+json"

MOST_AMOUNT = 10**15
"""Most of one meter in one use that was counted elsewhere."""

MOST_AHEAD_NS = 300 * 10**9
"""How far the clock of who reports a use may be ahead of ours."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_SHOWN = 80


def moment_ns(text: str) -> int:
    """Return an RFC 3339 time in Unix nanoseconds.

    Raises:
        ValueError: It is none, or before 1970.

    Source: RFC 3339, section 5.6
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"time {text[:_SHOWN]!r}: expected one like 2026-11-30T12:00:00Z")
    day, clock, fraction, zone = found.groups()
    at = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}") - _EPOCH
    if at < timedelta():
        raise ValueError(f"time {text[:_SHOWN]!r}: expected one after 1970")
    return (at // timedelta(seconds=1)) * 10**9 + int((fraction or "0").ljust(9, "0"))


def _moment(text: str) -> str:
    moment_ns(text)
    return text


Amount = Annotated[int, Field(ge=0, le=MOST_AMOUNT)]
Label = Annotated[str, Field(max_length=256)]


class Used(Strict):
    """What was used, and by whom.

    Attributes:
        plan: Of the subscription; None is the one that held at the time of the use.
        status: Of an HTTP answer, or 0.
        billed: Whether it counts on the invoice, for what is not refused by itself.
    """

    consumer: Name
    app: Name = "default"
    product: Name
    operation: str = Field(default="", max_length=256)
    plan: Name | None = None
    credential: str = Field(default="", max_length=128)
    status: int = Field(default=0, ge=0, le=599)
    billed: bool = True
    amounts: dict[Meter, Amount] = Field(min_length=1, max_length=32)
    labels: dict[Label, Label] = Field(default={}, max_length=32)


class Reported(Strict):
    """One CloudEvent that reports a use.

    Attributes:
        id: Unique within the source; one that comes again counts once.
        time: When it was used; None is now.
    """

    specversion: Literal["1.0"]
    id: str = Field(min_length=1, max_length=256)
    source: str = Field(min_length=1, max_length=1024)
    type: Literal["dev.wherry.usage.v1"]
    subject: str | None = Field(default=None, max_length=1024)
    time: Annotated[str, Field(max_length=64), AfterValidator(_moment)] | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    data: Used

    @property
    def key(self) -> str:
        """What tells it from every other event, in few characters."""
        name = f"{self.source}\0{self.id}".encode("utf-8", "surrogatepass")
        return f"event-{hashlib.sha256(name).hexdigest()}"

    def usage(self, plan: str, now_ns: int) -> Usage:
        """Return the use.

        Args:
            plan: It was let through under.
            now_ns: Unix nanoseconds; its time when it has none.
        """
        data = self.data
        return Usage(
            self.id,
            now_ns if self.time is None else moment_ns(self.time),
            data.consumer,
            data.app,
            data.product,
            data.operation,
            plan,
            data.credential,
            data.status,
            data.amounts,
            {**data.labels, "source": self.source},
            not data.billed,
        )


class Unusable(WherryError):
    """An event cannot be taken.

    Attributes:
        place: JSON pointer into what was sent.
    """

    def __init__(self, place: str, found: str, expected: str) -> None:
        super().__init__(f"event {place or '/'}: {found}, expected {expected}")
        self.place, self.found, self.expected = place, found, expected


def reported(document: object, place: str) -> Reported:
    """Return the event in a JSON value.

    Args:
        document: As `json.loads` returned it.
        place: JSON pointer of it, for the error.

    Raises:
        Unusable: It is none; the first thing wrong is named.
    """
    try:
        return Reported.model_validate(document, context={"from_file": True})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=True)[0]
        where = pointer_of(first["loc"])
        found = repr(first["input"])[:_SHOWN] if first["type"] != "missing" else "nothing"
        raise Unusable(f"{place}{where}", found, first["msg"][:200].lower()) from None


def document(usage: Usage) -> Mapping[str, Any]:
    """Return ``usage`` as the JSON form of a CloudEvent."""
    labels = dict(usage.labels)
    return {
        "specversion": "1.0",
        "id": usage.id,
        "source": labels.pop("source", SOURCE),
        "type": TYPE,
        "subject": usage.consumer,
        "time": written(usage.at_ns),
        "datacontenttype": "application/json",
        "data": {
            "consumer": usage.consumer,
            "app": usage.app,
            "product": usage.product,
            "operation": usage.operation,
            "plan": usage.plan,
            "credential": usage.credential,
            "status": usage.status,
            "billed": usage.billed,
            "amounts": dict(usage.amounts),
            "labels": labels,
        },
    }
