"""Where event source mappings read from: which kinds there are and what each may be told. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_QUEUE = re.compile(r"arn:aws:sqs:[^:]*:\d{12}:(?P<name>[^:/]+)")
_STREAM = re.compile(r"arn:aws:redis:[^:]*:\d{12}:stream/(?P<name>[^\s]{1,512})")
_ELSEWHERE: Mapping[str, str] = {
    "kinesis": "Kinesis",
    "dynamodb": "DynamoDB",
    "kafka": "Amazon MSK",
    "mq": "Amazon MQ",
    "rds": "DocumentDB",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of event source.

    Attributes:
        title: As messages name it.
        usual_batch: Records in a call when nothing was said.
        largest_batch: Most records in one call.
        streams: Whether it is a stream, which is read in order and from a position.
        ordered: Whether it is a first-in-first-out queue.
    """

    title: str
    usual_batch: int
    largest_batch: int
    streams: bool = False
    ordered: bool = False


QUEUE = Source("SQS", 10, 10_000)
ORDERED_QUEUE = Source("SQS FIFO", 10, 10, ordered=True)
STREAM = Source("Redis Streams", 100, 10_000, streams=True)


def source_of(arn: str) -> Source | None:
    """Return what kind of source an ARN names; None for one that Wherry does not read."""
    queue = _QUEUE.fullmatch(arn)
    if queue is not None:
        return ORDERED_QUEUE if queue["name"].endswith(".fifo") else QUEUE
    return STREAM if _STREAM.fullmatch(arn) else None


def service_of(arn: str) -> str:
    """Return the name of the service that an ARN names, for messages."""
    parts = arn.split(":")
    service = parts[2] if len(parts) > 2 else ""  # noqa: PLR2004
    return _ELSEWHERE.get(service, service or "this")
