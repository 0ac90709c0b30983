"""A message on its way into a queue: what the queue asks of it. Pure."""

import hashlib
from dataclasses import dataclass

from faas.queues.attributes import Queue
from faas.queues.faults import InvalidParameterValue, MissingParameter
from faas.queues.message import Content, check

NO_DEDUPLICATION = (
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
    "provided explicitly"
)
_MAX_DELAY = 900
_MAX_ID = 128


@dataclass(frozen=True, slots=True)
class Sending:
    """A message to be sent.

    Attributes:
        delay: Seconds until it can be received; None: as the queue says.
        group: Message group; needed by a first-in-first-out queue.
        dedup: Deduplication id; empty: by content, if the queue says so.
    """

    content: Content
    delay: int | None = None
    group: str = ""
    dedup: str = ""


def admitted(queue: Queue, sending: Sending, *, once: bool) -> tuple[int, int, str]:
    """Return a message's size in bytes, its delay in seconds and its deduplication id.

    Args:
        queue: Where it is to go.
        sending: The message.
        once: Whether it is one of our own, which every queue takes at any size.

    Raises:
        QueueFault: The message is not as it has to be.
    """
    check(sending.content)
    size, limit = sending.content.size, queue.number("MaximumMessageSize")
    if size > limit and not once:
        raise InvalidParameterValue(
            f"One or more parameters are invalid. Reason: Message must be shorter than {limit} "
            "bytes."
        )
    delay = queue.number("DelaySeconds") if sending.delay is None else sending.delay
    if not 0 <= delay <= _MAX_DELAY or (queue.fifo and sending.delay):
        reason = (
            "The request include parameter that is not valid for this queue type."
            if queue.fifo
            else "DelaySeconds must be >= 0 and <= 900."
        )
        raise InvalidParameterValue(
            f"Value {delay} for parameter DelaySeconds is invalid. Reason: {reason}"
        )
    return size, delay, _dedup(queue, sending, once=once)


def _dedup(queue: Queue, sending: Sending, *, once: bool) -> str:
    """Return the deduplication id; empty with a standard queue."""
    for name, value in (
        ("MessageGroupId", sending.group),
        ("MessageDeduplicationId", sending.dedup),
    ):
        if len(value) > _MAX_ID or not (value.isascii() and value.isprintable()):
            raise InvalidParameterValue(
                f"Value {value[:_MAX_ID]} for parameter {name} is invalid. Reason: {name} can "
                "only include alphanumeric and punctuation characters. 1 to 128 in length."
            )
    if not queue.fifo:
        if sending.dedup:
            raise InvalidParameterValue(
                f"Value {sending.dedup} for parameter MessageDeduplicationId is invalid. "
                "Reason: The request include parameter that is not valid for this queue type."
            )
        return ""
    if not sending.group:
        raise MissingParameter("The request must contain the parameter MessageGroupId.")
    if sending.dedup or once:
        return sending.dedup
    if not queue.flag("ContentBasedDeduplication"):
        raise InvalidParameterValue(NO_DEDUPLICATION)
    return hashlib.sha256(sending.content.body.encode()).hexdigest()
