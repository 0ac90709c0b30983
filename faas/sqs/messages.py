"""The operations of the SQS API on messages."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.lambda_errors import LambdaError
from faas.queues.attributes import MAX_MESSAGE
from faas.queues.faults import InvalidParameterValue, MissingParameter, QueueFault
from faas.queues.held import MAX_VISIBILITY, Received
from faas.queues.message import Attribute, Content, Message, attributes_md5, md5
from faas.queues.sending import NO_DEDUPLICATION, Sending
from faas.queues.service import Queues
from faas.sqs.queues import name_of

MAX_BATCH = 10
MAX_BODY = 8 << 20
"""Most bytes in a request that sends messages: 1 MiB of text may be six times as long in JSON."""
LIMITS: Mapping[str, int] = {"SendMessage": MAX_BODY, "SendMessageBatch": MAX_BODY}
_MAX_WAIT = 20
_ENTRY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TRACE = "AWSTraceHeader"

Entry = Mapping[str, Any]


class EmptyBatchRequest(QueueFault):
    """A batch has no entries."""

    code = "EmptyBatchRequest"
    query_code = "AWS.SimpleQueueService.EmptyBatchRequest"


class TooManyEntriesInBatchRequest(QueueFault):
    """A batch has over `MAX_BATCH` entries."""

    code = "TooManyEntriesInBatchRequest"
    query_code = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"


class BatchEntryIdsNotDistinct(QueueFault):
    """Two entries of a batch have the same id."""

    code = "BatchEntryIdsNotDistinct"
    query_code = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"


class InvalidBatchEntryId(QueueFault):
    """An entry's id is not 1 to 80 of ``A-Za-z0-9_-``."""

    code = "InvalidBatchEntryId"
    query_code = "AWS.SimpleQueueService.InvalidBatchEntryId"


class BatchRequestTooLong(QueueFault):
    """The messages of a batch are too long together."""

    code = "BatchRequestTooLong"
    query_code = "AWS.SimpleQueueService.BatchRequestTooLong"


class MessageOperations:
    """Sends, receives and deletes messages."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def operations(self) -> Mapping[str, Operation]:
        """Return the operations by name."""
        return {
            "SendMessage": self.send,
            "SendMessageBatch": self.send_batch,
            "ReceiveMessage": self.receive,
            "DeleteMessage": self.delete,
            "DeleteMessageBatch": self.delete_batch,
            "ChangeMessageVisibility": self.change_visibility,
            "ChangeMessageVisibilityBatch": self.change_visibility_batch,
        }

    async def send(self, asked: Asked) -> Answered:
        """See SendMessage."""
        return Answered(await self._sent(asked, asked.parameters))

    async def send_batch(self, asked: Asked) -> Answered:
        """See SendMessageBatch."""
        entries = _entries(asked)
        size = sum(_sending(asked, entry).content.size for entry in entries)
        if size > MAX_MESSAGE:
            raise BatchRequestTooLong(
                f"Batch requests cannot be longer than {MAX_MESSAGE} bytes. You have sent {size} "
                "bytes."
            )
        queue = self._queues.get(name_of(asked)).queue
        if queue.fifo and not all(entry.get("MessageGroupId") for entry in entries):
            raise MissingParameter("The request must contain the parameter MessageGroupId.")
        by_content = not queue.fifo or queue.flag("ContentBasedDeduplication")
        if not by_content and not all(entry.get("MessageDeduplicationId") for entry in entries):
            raise InvalidParameterValue(NO_DEDUPLICATION)
        return await _each(entries, lambda entry: self._sent(asked, entry))

    async def receive(self, asked: Asked) -> Answered:
        """See ReceiveMessage."""
        most, wait = asked.get("MaxNumberOfMessages", 1), asked.get("WaitTimeSeconds")
        visibility = asked.get("VisibilityTimeout")
        for name, value, least, greatest in (
            ("MaxNumberOfMessages", most, 1, MAX_BATCH),
            ("WaitTimeSeconds", wait or 0, 0, _MAX_WAIT),
            ("VisibilityTimeout", visibility or 0, 0, MAX_VISIBILITY),
        ):
            if not least <= value <= greatest:
                raise InvalidParameterValue(
                    f"Value {value} for parameter {name} is invalid. Reason: Must be between "
                    f"{least} and {greatest}, if provided."
                )
        held = self._queues.get(name_of(asked))
        found = await held.receive(most, wait=wait, visibility=visibility)
        system = {*asked.get("AttributeNames", ()), *asked.get("MessageSystemAttributeNames", ())}
        named = asked.get("MessageAttributeNames", ())
        messages = [_received(each, system, named) for each in found]
        return Answered({"Messages": messages} if messages else {})

    async def delete(self, asked: Asked) -> Answered:
        """See DeleteMessage."""
        await self._queues.get(name_of(asked)).delete(asked["ReceiptHandle"])
        return Answered()

    async def delete_batch(self, asked: Asked) -> Answered:
        """See DeleteMessageBatch."""
        held = self._queues.get(name_of(asked))

        async def act(entry: Entry) -> dict[str, Any]:
            await held.delete(entry["ReceiptHandle"])
            return {}

        return await _each(_entries(asked), act)

    async def change_visibility(self, asked: Asked) -> Answered:
        """See ChangeMessageVisibility."""
        held = self._queues.get(name_of(asked))
        await held.change_visibility(asked["ReceiptHandle"], asked["VisibilityTimeout"])
        return Answered()

    async def change_visibility_batch(self, asked: Asked) -> Answered:
        """See ChangeMessageVisibilityBatch."""
        held = self._queues.get(name_of(asked))

        async def act(entry: Entry) -> dict[str, Any]:
            seconds = entry.get("VisibilityTimeout")
            if seconds is None:
                raise InvalidParameterValue(
                    "The request must contain the parameter VisibilityTimeout."
                )
            await held.change_visibility(entry["ReceiptHandle"], seconds)
            return {}

        return await _each(_entries(asked), act)

    async def _sent(self, asked: Asked, given: Entry) -> dict[str, Any]:
        sending = _sending(asked, given)
        message = await self._queues.send(name_of(asked), sending)
        found: dict[str, Any] = {
            "MessageId": message.id,
            "MD5OfMessageBody": md5(sending.content.body),
        }
        if sending.content.attributes:
            found["MD5OfMessageAttributes"] = attributes_md5(sending.content.attributes)
        system = _attributes(given.get("MessageSystemAttributes") or {})
        if system:
            found["MD5OfMessageSystemAttributes"] = attributes_md5(system)
        if message.dedup:
            found["SequenceNumber"] = f"{message.sequence:020d}"
        return found


def _sending(asked: Asked, given: Entry) -> Sending:
    """Return the message that a request, or an entry of a batch, sends."""
    system = _attributes(given.get("MessageSystemAttributes") or {})
    unknown = next((name for name in system if name != _TRACE), None)
    if unknown is not None:
        raise InvalidParameterValue(
            f"Message system attribute name '{unknown[:80]}' is invalid. Reason: only {_TRACE} is "
            "supported."
        )
    trace = system[_TRACE].text if _TRACE in system else asked.trace_id
    content = Content(
        body=given.get("MessageBody") or "",
        attributes=_attributes(given.get("MessageAttributes") or {}),
        trace=trace,
        sender=asked.caller or "anonymous",
    )
    return Sending(
        content,
        delay=given.get("DelaySeconds"),
        group=given.get("MessageGroupId") or "",
        dedup=given.get("MessageDeduplicationId") or "",
    )


def _attributes(given: Mapping[str, Entry]) -> dict[str, Attribute]:
    return {
        name: Attribute(
            kind=value["DataType"],
            text=value.get("StringValue") or "",
            binary=value.get("BinaryValue") or b"",
        )
        for name, value in given.items()
    }


def _entries(asked: Asked) -> Sequence[Entry]:
    """Return the entries of a batch, checked."""
    entries: Sequence[Entry] = asked["Entries"]
    if not entries:
        raise EmptyBatchRequest(
            f"There should be at least one {asked.operation}RequestEntry in the request."
        )
    if len(entries) > MAX_BATCH:
        raise TooManyEntriesInBatchRequest(
            f"Maximum number of entries per request are {MAX_BATCH}. You have sent {len(entries)}."
        )
    seen: set[str] = set()
    for each in (entry["Id"] for entry in entries):
        if not _ENTRY.fullmatch(each):
            raise InvalidBatchEntryId(
                "A batch entry id can only contain alphanumeric characters, hyphens and "
                "underscores. It can be at most 80 letters long."
            )
        if each in seen:
            raise BatchEntryIdsNotDistinct(f"Id {each} repeated.")
        seen.add(each)
    return entries


async def _each(
    entries: Sequence[Entry], act: Callable[[Entry], Awaitable[dict[str, Any]]]
) -> Answered:
    """Do each entry of a batch; one that is refused does not hold up the others."""
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **await act(entry)})
        except LambdaError as error:
            failed.append(
                {
                    "Id": entry["Id"],
                    "SenderFault": error.fault == "User",
                    "Code": error.code,
                    "Message": str(error),
                }
            )
    return Answered({"Successful": done} | ({"Failed": failed} if failed else {}))


def _received(found: Received, system: Collection[str], named: Sequence[str]) -> dict[str, Any]:
    """Return a message as it is received."""
    content, every = found.content, system_attributes(found.message, found.content)
    wanted = {name: value for name, value in every.items() if "All" in system or name in system}
    attributes = {
        name: value
        for name, value in content.attributes.items()
        if any(_matches(name, pattern) for pattern in named)
    }
    answer: dict[str, Any] = {
        "MessageId": found.message.id,
        "ReceiptHandle": found.handle,
        "MD5OfBody": md5(content.body),
        "Body": content.body,
    }
    if wanted:
        answer["Attributes"] = wanted
    if attributes:
        answer["MD5OfMessageAttributes"] = attributes_md5(attributes)
        answer["MessageAttributes"] = {
            name: {"DataType": value.kind}
            | (
                {"BinaryValue": value.binary}
                if value.kind.startswith("Binary")
                else {"StringValue": value.text}
            )
            for name, value in attributes.items()
        }
    return answer


def system_attributes(message: Message, content: Content) -> dict[str, str]:
    """Return what a queue says of a message."""
    found = {
        "SenderId": content.sender or "anonymous",
        "SentTimestamp": str(int(message.sent * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(int(message.first * 1000)),
    }
    further = {
        "SequenceNumber": f"{message.sequence:020d}" if message.dedup else "",
        "MessageDeduplicationId": message.dedup,
        "MessageGroupId": message.group,
        _TRACE: content.trace,
        "DeadLetterQueueSourceArn": message.source,
    }
    return found | {name: value for name, value in further.items() if value}


def _matches(name: str, pattern: str) -> bool:
    if pattern in {"All", ".*"}:
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern.removesuffix(".*"))
    return name == pattern
