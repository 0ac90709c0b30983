"""What is wrong with a request, in AWS's words. Pure."""

from faas.lambda_errors import LambdaError


class SerializationFault(LambdaError):
    """A value of the request has the wrong type, or is not what its location needs."""

    code, status, fault = "SerializationException", 400, "User"


class ValidationFault(LambdaError):
    """A value of the request is missing or out of the model's bounds."""

    code, status, fault = "ValidationException", 400, "User"


class SignatureMissing(LambdaError):
    """The request is not signed."""

    code, status, fault = "MissingAuthenticationTokenException", 403, "User"


class SignatureIncomplete(LambdaError):
    """The request's signature lacks a part."""

    code, status, fault = "IncompleteSignatureException", 403, "User"


class SignerUnknown(LambdaError):
    """Nobody has the access key, or the session token is not its own."""

    code, status, fault = "UnrecognizedClientException", 403, "User"


class SignatureWrong(LambdaError):
    """The signature is not what the secret key gives, or is of another time."""

    code, status, fault = "InvalidSignatureException", 403, "User"


class UnsupportedMedia(LambdaError):
    """The request's body is of another form than the API reads."""

    code, status, fault = "UnsupportedMediaTypeException", 415, "User"


class TooSlow(LambdaError):
    """The request's body did not come in time."""

    code, status, fault = "RequestTimeoutException", 408, "User"
