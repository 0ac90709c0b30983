"""What a queue refuses, by the names that SQS gives it. Pure."""

from collections.abc import Mapping

from faas.lambda_errors import LambdaError


class QueueFault(LambdaError):
    """A request that a queue refuses.

    Attributes:
        query_code: What the older query protocol calls it, when that differs from ``code``.
    """

    code, status, fault = "InvalidParameterValue", 400, "User"
    query_code = ""

    def headers(self) -> Mapping[str, str]:
        """See `LambdaError.headers`."""
        return {"x-amzn-query-error": f"{self.query_code or self.code};Sender"}


class QueueDoesNotExist(QueueFault):
    """There is no queue of that name."""

    code = "QueueDoesNotExist"
    query_code = "AWS.SimpleQueueService.NonExistentQueue"

    def __init__(self, queue: str) -> None:
        super().__init__("The specified queue does not exist.")
        self.queue = queue


class QueueNameExists(QueueFault):
    """There is a queue of that name with other attributes."""

    code = "QueueNameExists"
    query_code = "QueueAlreadyExists"


class InvalidAttributeName(QueueFault):
    """Queues have no such attribute."""

    code = "InvalidAttributeName"


class InvalidAttributeValue(QueueFault):
    """An attribute's value is out of its bounds."""

    code = "InvalidAttributeValue"


class InvalidParameterValue(QueueFault):
    """A parameter is out of its bounds."""

    code = "InvalidParameterValue"


class MissingParameter(QueueFault):
    """A parameter that this queue needs is missing."""

    code = "MissingParameter"


class InvalidMessageContents(QueueFault):
    """A message has characters that XML 1.0 does not have."""

    code = "InvalidMessageContents"


class ReceiptHandleIsInvalid(QueueFault):
    """A receipt handle is none that this queue gave."""

    code = "ReceiptHandleIsInvalid"


class MessageNotInflight(QueueFault):
    """The message is not being worked on, so its visibility cannot change."""

    code = "MessageNotInflight"
    query_code = "AWS.SimpleQueueService.MessageNotInflight"


class PurgeQueueInProgress(QueueFault):
    """The queue was purged within the last minute."""

    code = "PurgeQueueInProgress"
    query_code = "AWS.SimpleQueueService.PurgeQueueInProgress"


class OverLimit(QueueFault):
    """There would be more than this place holds."""

    code = "OverLimit"
