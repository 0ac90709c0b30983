"""The operations of the SQS API on queues themselves."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.queues.attributes import named
from faas.queues.faults import (
    InvalidAttributeName,
    InvalidParameterValue,
    MissingParameter,
    QueueDoesNotExist,
)
from faas.queues.held import Held
from faas.queues.service import Queues

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_MAX_RESULTS = 1000


class QueueOperations:
    """Makes, finds, changes and deletes queues.

    Args:
        queues: The place's queues.
        account: Stands in their URLs.
    """

    def __init__(self, queues: Queues, account: str) -> None:
        self._queues = queues
        self._account = account

    def operations(self) -> Mapping[str, Operation]:
        """Return the operations by name."""
        return {
            "CreateQueue": self.create,
            "GetQueueUrl": self.url,
            "ListQueues": self.list,
            "DeleteQueue": self.delete,
            "PurgeQueue": self.purge,
            "GetQueueAttributes": self.attributes,
            "SetQueueAttributes": self.change,
            "ListDeadLetterSourceQueues": self.sources,
            "TagQueue": self.tag,
            "UntagQueue": self.untag,
            "ListQueueTags": self.tags,
        }

    async def create(self, asked: Asked) -> Answered:
        """See CreateQueue."""
        held = await self._queues.create(
            asked["QueueName"], asked.get("Attributes", {}), asked.get("tags", {})
        )
        return Answered({"QueueUrl": self._url(asked, held.queue.name)})

    async def url(self, asked: Asked) -> Answered:
        """See GetQueueUrl."""
        owner = asked.get("QueueOwnerAWSAccountId", self._account)
        if owner != self._account:
            raise QueueDoesNotExist(asked["QueueName"])
        held = self._queues.get(asked["QueueName"])
        return Answered({"QueueUrl": self._url(asked, held.queue.name)})

    async def list(self, asked: Asked) -> Answered:
        """See ListQueues."""
        prefix = asked.get("QueueNamePrefix", "")
        found = [name for name in self._queues.names() if name.startswith(prefix)]
        return Answered(self._page(asked, found, "QueueUrls"))

    async def sources(self, asked: Asked) -> Answered:
        """See ListDeadLetterSourceQueues."""
        found = self._queues.sources(name_of(asked))
        return Answered(self._page(asked, found, "queueUrls"))

    async def delete(self, asked: Asked) -> Answered:
        """See DeleteQueue."""
        await self._queues.delete(name_of(asked))
        return Answered()

    async def purge(self, asked: Asked) -> Answered:
        """See PurgeQueue."""
        await self._queues.purge(name_of(asked))
        return Answered()

    async def attributes(self, asked: Asked) -> Answered:
        """See GetQueueAttributes."""
        held = self._queues.get(name_of(asked))
        every = {
            **held.queue.described(),
            **await _counted(held),
            "QueueArn": self._queues.arn(held.queue.name),
        }
        wanted = asked.get("AttributeNames", ())
        if "All" in wanted:
            return Answered({"Attributes": every})
        known = {
            *every,
            "RedrivePolicy",
            "RedriveAllowPolicy",
            "Policy",
            "KmsMasterKeyId",
            "KmsDataKeyReusePeriodSeconds",
            "FifoQueue",
            "ContentBasedDeduplication",
            "DeduplicationScope",
            "FifoThroughputLimit",
        }
        for name in wanted:
            if name not in known:
                raise InvalidAttributeName(f"Unknown Attribute {name}.")
        found = {name: every[name] for name in wanted if name in every}
        return Answered({"Attributes": found} if found else {})

    async def change(self, asked: Asked) -> Answered:
        """See SetQueueAttributes."""
        await self._queues.change(name_of(asked), asked["Attributes"])
        return Answered()

    async def tag(self, asked: Asked) -> Answered:
        """See TagQueue."""
        if not asked["Tags"]:
            raise MissingParameter("The request must contain the parameter Tags.")
        await self._queues.tag(name_of(asked), asked["Tags"])
        return Answered()

    async def untag(self, asked: Asked) -> Answered:
        """See UntagQueue."""
        if not asked["TagKeys"]:
            raise InvalidParameterValue("Tag keys must be between 1 and 128 characters in length.")
        await self._queues.tag(name_of(asked), {}, asked["TagKeys"])
        return Answered()

    async def tags(self, asked: Asked) -> Answered:
        """See ListQueueTags."""
        return Answered({"Tags": self._queues.get(name_of(asked)).queue.tags})

    def _url(self, asked: Asked, name: str) -> str:
        return f"{asked.base_url}/{self._account}/{name}"

    def _page(self, asked: Asked, names: Sequence[str], member: str) -> dict[str, Any]:
        """Return one page of URLs; the token names the last queue of the page before."""
        most = asked.get("MaxResults")
        if most is not None and not 1 <= most <= _MAX_RESULTS:
            raise InvalidParameterValue(
                f"Value for parameter MaxResults is invalid. Reason: Must be an integer between 1 "
                f"and {_MAX_RESULTS}."
            )
        after = _token(asked.get("NextToken", ""))
        rest = [name for name in names if name > after]
        page = rest[: most or _MAX_RESULTS]
        found: dict[str, Any] = {member: [self._url(asked, name) for name in page]}
        if most is not None and len(rest) > len(page):
            found["NextToken"] = base64.urlsafe_b64encode(page[-1].encode()).decode()
        return found


def name_of(asked: Asked) -> str:
    """Return the name in the queue's URL or ARN that a request has."""
    text = asked["QueueUrl"]
    name: str = named(text) or text.rstrip("/").rpartition("/")[2]
    return name


async def _counted(held: Held) -> Mapping[str, str]:
    return dict(zip(_COUNTS, map(str, await held.counts()), strict=True))


def _token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        raise InvalidParameterValue("Invalid or expired next token.") from None
