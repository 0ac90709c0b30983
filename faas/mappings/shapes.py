"""What functions get from queues and streams, and what they say of it. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html; records of Redis Streams are
Wherry's own, see docs/lambda-events.md.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faas.events.shapes import Response, qualified, timestamp
from faas.model.mapping import EventSourceMapping
from faas.queues.held import Received
from faas.queues.message import attributes_md5, md5
from faas.sqs.messages import system_attributes

MAX_BATCH_BYTES = 6 * (1 << 20) - 4096
"""Most bytes of records in one call."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream.

    Attributes:
        id: ``MILLISECONDS-NUMBER``.
        fields: In order.
    """

    id: str
    fields: Mapping[bytes, bytes]

    @property
    def at(self) -> float:
        """Unix seconds when it arrived, as far as its id says."""
        milliseconds = self.id.partition("-")[0]
        return int(milliseconds) / 1000 if milliseconds.isdigit() else 0.0


def queue_record(found: Received, *, arn: str, region: str) -> dict[str, Any]:
    """Return a message as Lambda's event has it."""
    content = found.content
    record: dict[str, Any] = {
        "messageId": found.message.id,
        "receiptHandle": found.handle,
        "body": content.body,
        "attributes": system_attributes(found.message, content),
        "messageAttributes": {
            name: {
                "stringValue" if not value.binary else "binaryValue": (
                    base64.b64encode(value.binary).decode() if value.binary else value.text
                ),
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value.kind,
            }
            for name, value in content.attributes.items()
        },
        "md5OfBody": md5(content.body),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": region,
    }
    if content.attributes:
        record["md5OfMessageAttributes"] = attributes_md5(content.attributes)
    return record


def stream_record(entry: Entry, *, arn: str, region: str) -> dict[str, Any]:
    """Return an entry as functions get it; a value that is no UTF-8 is in base64."""
    texts: dict[str, str] = {}
    binaries: dict[str, str] = {}
    for key, value in entry.fields.items():
        name = key.decode(errors="replace")
        try:
            texts[name] = value.decode()
        except UnicodeDecodeError:
            binaries[name] = base64.b64encode(value).decode()
    stream = stream_of(arn)
    return {
        "redis": {
            "schemaVersion": "1.0",
            "stream": stream,
            "sequenceNumber": entry.id,
            "fields": texts,
            "binaryFields": binaries,
            "approximateArrivalTimestamp": entry.at,
        },
        "eventSource": "wherry:redis",
        "eventVersion": "1.0",
        "eventID": f"{stream}:{entry.id}",
        "eventName": "wherry:redis:record",
        "eventSourceARN": arn,
        "awsRegion": region,
    }


def stream_of(arn: str) -> str:
    """Return the key of the stream that an ARN names."""
    return arn.partition(":stream/")[2]


def event(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the payload of a call with ``records``."""
    return json.dumps({"Records": records}, separators=(",", ":")).encode()


def packed(records: Sequence[Mapping[str, Any]], limit: int) -> list[slice]:
    """Return where to cut ``records`` so that no call has over ``limit`` bytes; one always fits."""
    cuts: list[slice] = []
    start = size = 0
    for number, record in enumerate(records):
        length = len(json.dumps(record, separators=(",", ":"))) + 1
        if number > start and size + length > limit:
            cuts.append(slice(start, number))
            start, size = number, 0
        size += length
    if len(records) > start:
        cuts.append(slice(start, len(records)))
    return cuts


def failures(payload: bytes, ids: Sequence[str]) -> frozenset[str]:
    """Return which of ``ids`` an answer names as failed; one that makes no sense names all.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    every = frozenset(ids)
    try:
        answer = json.loads(payload) if payload else None
    except (ValueError, RecursionError):
        return every
    if not isinstance(answer, dict):
        return frozenset()
    items = answer.get("batchItemFailures")
    if items is None:
        return frozenset()
    if not isinstance(items, list):
        return every
    named = {str(item.get("itemIdentifier")) if isinstance(item, dict) else "" for item in items}
    return frozenset(named) if named <= every else every


def given_up(
    mapping: EventSourceMapping,
    batch: Sequence[Entry],
    *,
    condition: str,
    tries: int,
    request_id: str,
    response: Response | None,
    now: float,
) -> bytes:
    """Return the record of entries that are given up.

    Args:
        mapping: Whose entries they are.
        batch: At least one entry.
        condition: ``RetryAttemptsExhausted`` or ``RecordAgeExceeded``.
        tries: How often the function got them.
        request_id: Of the last call.
        response: Of the last call; None: there was none.
        now: Unix seconds.
    """
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": qualified(mapping.arn, mapping.qualifier),
            "condition": condition,
            "approximateInvokeCount": tries,
        },
        "version": "1.0",
        "timestamp": timestamp(now),
        "RedisStreamBatchInfo": {
            "stream": stream_of(mapping.source),
            "startSequenceNumber": batch[0].id,
            "endSequenceNumber": batch[-1].id,
            "approximateArrivalOfFirstRecord": timestamp(batch[0].at),
            "approximateArrivalOfLastRecord": timestamp(batch[-1].at),
            "batchSize": len(batch),
            "streamArn": mapping.source,
        },
    }
    if response is not None:
        document["responseContext"] = response.context()
    return json.dumps(document, separators=(",", ":")).encode()
