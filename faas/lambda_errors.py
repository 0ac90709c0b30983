"""The errors that the Lambda API answers with, in the shape that every AWS SDK parses."""

import json
from collections.abc import Mapping

from wherry.errors import WherryError


class LambdaError(WherryError):
    """A request that the Lambda API refuses.

    Attributes:
        code: The exception's name as SDKs know it.
        status: The HTTP status that goes with it.
        fault: ``User`` or ``Service``, as in the body's ``Type``.
    """

    code = "ServiceException"
    status = 500
    fault = "Service"

    def body(self) -> bytes:
        """Return the JSON that stands in the response."""
        return json.dumps({"Type": self.fault, "Message": str(self)}).encode()

    def headers(self) -> Mapping[str, str]:
        """Return the headers that go with `body`."""
        return {"x-amzn-ErrorType": self.code}


class ServiceFailure(LambdaError):
    """The platform failed, not the function and not the caller."""


class ResourceNotFound(LambdaError):
    """What is named does not exist."""

    code, status, fault = "ResourceNotFoundException", 404, "User"

    def __init__(self, message: str = "The resource you requested does not exist.") -> None:
        super().__init__(message)


class ResourceConflict(LambdaError):
    """The resource exists already, or its state does not allow the operation."""

    code, status, fault = "ResourceConflictException", 409, "User"


class InvalidParameter(LambdaError):
    """A parameter is out of range, unsupported or contradicts another."""

    code, status, fault = "InvalidParameterValueException", 400, "User"


class InvalidRequestContent(LambdaError):
    """The body is not the JSON that it has to be."""

    code, status, fault = "InvalidRequestContentException", 400, "User"


class PreconditionFailed(LambdaError):
    """The ``RevisionId`` given is not the function's."""

    code, status, fault = "PreconditionFailedException", 412, "User"


class RequestTooLarge(LambdaError):
    """The request's body is over the operation's limit."""

    code, status, fault = "RequestEntityTooLargeException", 413, "User"

    def __init__(self, limit: int, operation: str) -> None:
        super().__init__(
            f"Request must be smaller than {limit} bytes for the {operation} operation"
        )
        self.limit, self.operation = limit, operation


class AccessDenied(LambdaError):
    """The request comes from a web page."""

    code, status, fault = "AccessDeniedException", 403, "User"


class KmsRefused(LambdaError):
    """The function's variables cannot be read with the key that the platform has.

    Attributes:
        arn: Of the function or version.
    """

    code, status, fault = "KMSAccessDeniedException", 502, "Service"

    def __init__(self, arn: str) -> None:
        super().__init__(
            "Lambda was unable to decrypt the environment variables because the vault does not "
            f"have the key that they were sealed with: {arn}; restore the key, or set the "
            "variables again"
        )
        self.arn = arn


class UnsupportedOperation(LambdaError):
    """An operation of the Lambda API that Wherry does not have."""

    code, status, fault = "NotImplementedException", 501, "User"


class UnknownOperation(LambdaError):
    """A path that is no operation of the Lambda API."""

    code, status, fault = "UnknownOperationException", 404, "User"


class TooManyRequests(LambdaError):
    """Every instance that the limits allow is busy.

    Attributes:
        reason: One of Lambda's throttle reasons.
        retry_after: Seconds after which another try may find room.
    """

    code, status, fault = "TooManyRequestsException", 429, "User"

    def __init__(
        self, message: str = "Rate Exceeded.", *, retry_after: int = 1, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.reason = reason or "ReservedFunctionConcurrentInvocationLimitExceeded"

    def body(self) -> bytes:
        """See `LambdaError.body`; throttles spell ``message`` in lower case and add a reason."""
        return json.dumps(
            {"Reason": self.reason, "Type": self.fault, "message": str(self)}
        ).encode()

    def headers(self) -> Mapping[str, str]:
        """See `LambdaError.headers`."""
        return {"x-amzn-ErrorType": self.code, "Retry-After": str(self.retry_after)}


class RecursiveInvocation(LambdaError):
    """Functions call each other in a circle, and this call would go on with it."""

    code, status, fault = "RecursiveInvocationException", 400, "User"

    def __init__(self) -> None:
        super().__init__(
            "Lambda has detected your function being invoked in a recursive loop with other AWS "
            "resources and stopped your function's invocation."
        )


class ProvisionedConcurrencyNotFound(LambdaError):
    """Nothing is kept ready for the version or alias."""

    code, status, fault = "ProvisionedConcurrencyConfigNotFoundException", 404, "User"


class PolicyTooLong(LambdaError):
    """A resource-based policy would be over its limit."""

    code, status, fault = "PolicyLengthExceededException", 400, "User"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"The final policy size ({size}) is bigger than the limit ({limit}).")
        self.size, self.limit = size, limit
