"""What a queue is told and what it says of itself: names, bounds, defaults. Pure.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/
API_SetQueueAttributes.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from faas.queues.faults import InvalidAttributeName, InvalidAttributeValue, InvalidParameterValue

PREFIX = "queue/"
"""Records ``queue/NAME``."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
MAX_MESSAGE = 1 << 20
"""Most bytes in a message with its attributes. Source: SQS quotas, "Message size"."""
_ARN = re.compile(r"arn:aws:sqs:[a-z0-9-]+:\d{12}:(?P<name>[A-Za-z0-9_-]{1,80}(?:\.fifo)?)")
_BOUNDS: Mapping[str, tuple[int, int, int]] = {
    "DelaySeconds": (0, 900, 0),
    "MaximumMessageSize": (1024, MAX_MESSAGE, MAX_MESSAGE),
    "MessageRetentionPeriod": (60, 1_209_600, 345_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20, 0),
    "VisibilityTimeout": (0, 43_200, 30),
}
"""Least, most and usual value, in seconds or bytes."""
_FLAGS = {"FifoQueue", "ContentBasedDeduplication", "SqsManagedSseEnabled"}
_CHOICES = {
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
_KEPT = {"Policy", "RedriveAllowPolicy", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"}
_MAX_RECEIVES = 1000
_MAX_TEXT = 8192


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is kept.

    Attributes:
        name: 1 to 80 of ``A-Za-z0-9_-``; of a first-in-first-out queue with ``.fifo`` at its end.
        id: Tells it from other queues that had its name.
        created: Unix seconds.
        modified: Unix seconds.
        attributes: As they were set, checked.
        purged: Unix seconds of the last purge; 0: never.
    """

    name: str
    id: str
    created: float
    modified: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    purged: float = 0.0

    def number(self, name: str) -> int:
        """Return an attribute that is a number: seconds or bytes."""
        return int(self.attributes.get(name, _BOUNDS[name][2]))

    def flag(self, name: str) -> bool:
        """Return an attribute that is true or false."""
        return self.attributes.get(name) == "true"

    @property
    def fifo(self) -> bool:
        """Whether it keeps the order of each message group."""
        return self.name.endswith(".fifo")

    @property
    def redrive(self) -> tuple[str, int] | None:
        """Name of the dead-letter queue, and the receives after which a message goes there."""
        text = self.attributes.get("RedrivePolicy")
        return None if not text else redrive(text)

    def changed(self, attributes: Mapping[str, str], *, now: float) -> "Queue":
        """Return the queue with some attributes set anew; an empty text unsets one.

        Raises:
            InvalidAttributeName: There is no such attribute, or it cannot be changed.
            InvalidAttributeValue: A value is out of its bounds.
        """
        if attributes.get("FifoQueue", str(self.fifo).lower()) != str(self.fifo).lower():
            raise InvalidAttributeValue("Invalid value for the parameter FifoQueue.")
        merged = {**self.attributes, **checked(attributes, fifo=self.fifo)}
        kept = {name: value for name, value in merged.items() if value != ""}
        return replace(self, attributes=kept, modified=now)

    def described(self) -> dict[str, str]:
        """Return every attribute with its value but those that are counted."""
        usual = {name: str(bound[2]) for name, bound in _BOUNDS.items()}
        if self.fifo:
            usual |= {
                "FifoQueue": "true",
                "ContentBasedDeduplication": "false",
                "DeduplicationScope": "queue",
                "FifoThroughputLimit": "perQueue",
            }
        return {
            **usual,
            "SqsManagedSseEnabled": "false",
            **self.attributes,
            "CreatedTimestamp": str(int(self.created)),
            "LastModifiedTimestamp": str(int(self.modified)),
        }


def checked(attributes: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """Return the attributes when each is one, within its bounds.

    Raises:
        InvalidAttributeName: There is no such attribute.
        InvalidAttributeValue: A value is out of its bounds.
    """
    for name, value in attributes.items():
        if name in {"DeduplicationScope", "FifoThroughputLimit", "ContentBasedDeduplication"}:
            if not fifo:
                raise InvalidAttributeName(f"Unknown Attribute {name}.")
        elif name not in {*_BOUNDS, *_FLAGS, *_CHOICES, *_KEPT, "RedrivePolicy"}:
            raise InvalidAttributeName(f"Unknown Attribute {name}.")
        if not _fits(name, value):
            raise InvalidAttributeValue(f"Invalid value for the parameter {name}.")
    if not attributes.get("RedrivePolicy"):
        return dict(attributes)
    _, receives = redrive(attributes["RedrivePolicy"])
    policy = json.loads(attributes["RedrivePolicy"])
    if policy["maxReceiveCount"] == receives:
        return dict(attributes)
    policy["maxReceiveCount"] = receives
    return {**attributes, "RedrivePolicy": json.dumps(policy)}


def _fits(name: str, value: str) -> bool:
    if name in _BOUNDS:
        least, most, _ = _BOUNDS[name]
        digits = value.isascii() and value.isdigit() and len(value) < 10  # noqa: PLR2004
        return digits and least <= int(value) <= most
    if name in _FLAGS:
        return value in {"true", "false"}
    if name in _CHOICES:
        return value in _CHOICES[name]
    return len(value) <= _MAX_TEXT


def redrive(text: str) -> tuple[str, int]:
    """Return the queue and the number of receives of a redrive policy.

    Raises:
        InvalidParameterValue: It is no redrive policy.
    """
    try:
        document: Any = json.loads(text)
        found = _ARN.fullmatch(str(document["deadLetterTargetArn"]))
        receives = int(document["maxReceiveCount"])
    except (ValueError, KeyError, TypeError, RecursionError):
        found, receives = None, 0
    if found is None or not 1 <= receives <= _MAX_RECEIVES:
        raise InvalidParameterValue(
            f"Value {text[:200]} for parameter RedrivePolicy is invalid. Reason: expected "
            "deadLetterTargetArn of a queue and maxReceiveCount of 1 to 1000."
        )
    return found["name"], receives


def named(arn: str) -> str | None:
    """Return the name in a queue's ARN; None when it is none."""
    found = _ARN.fullmatch(arn)
    return None if found is None else found["name"]
