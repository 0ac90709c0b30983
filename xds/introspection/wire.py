"""Messages of gRPC health checking and server reflection, to and from our values.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md;
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from wherry.protobuf import messages

HEALTH = messages(
    "wherry.grpc.health",
    """
    HealthCheckRequest(grpc.health.v1.HealthCheckRequest) service:s=1
    HealthCheckResponse(grpc.health.v1.HealthCheckResponse) status:enum=1
    HealthListRequest(grpc.health.v1.HealthListRequest)
    HealthListResponse(grpc.health.v1.HealthListResponse) statuses:map<s,HealthCheckResponse>=1
    """,
)

_REFLECTION = """
    ExtensionRequest(PACKAGE.ExtensionRequest) containing_type:s=1 extension_number:i32=2
    ServerReflectionRequest(PACKAGE.ServerReflectionRequest)
        host:s=1 file_by_filename:s=3@message_request file_containing_symbol:s=4@message_request
        file_containing_extension:ExtensionRequest=5@message_request
        all_extension_numbers_of_type:s=6@message_request list_services:s=7@message_request
    FileDescriptorResponse(PACKAGE.FileDescriptorResponse) file_descriptor_proto:*by=1
    ExtensionNumberResponse(PACKAGE.ExtensionNumberResponse)
        base_type_name:s=1 extension_number:*i32=2
    ServiceResponse(PACKAGE.ServiceResponse) name:s=1
    ListServiceResponse(PACKAGE.ListServiceResponse) service:*ServiceResponse=1
    ErrorResponse(PACKAGE.ErrorResponse) error_code:i32=1 error_message:s=2
    ServerReflectionResponse(PACKAGE.ServerReflectionResponse)
        valid_host:s=1 original_request:ServerReflectionRequest=2
        file_descriptor_response:FileDescriptorResponse=4@message_response
        all_extension_numbers_response:ExtensionNumberResponse=5@message_response
        list_services_response:ListServiceResponse=6@message_response
        error_response:ErrorResponse=7@message_response
    """
REFLECTION = messages(
    "wherry.grpc.reflection.v1", _REFLECTION.replace("PACKAGE", "grpc.reflection.v1")
)
REFLECTION_ALPHA = messages(
    "wherry.grpc.reflection.v1alpha", _REFLECTION.replace("PACKAGE", "grpc.reflection.v1alpha")
)
"""The same messages under the older name, which many clients still use."""

MAX_NAME = 1024
"""Most characters in a name that is asked for."""


class ServingStatus(IntEnum):
    """Whether a service answers; numbers as in ``HealthCheckResponse.ServingStatus``."""

    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Question:
    """One question of reflection.

    Attributes:
        kind: Name of the field that is set, e.g. ``file_by_filename``.
        name: What it names; for an extension, the type that it extends.
        raw: The request as it came, which its answer repeats.
    """

    kind: str
    name: str
    raw: bytes


class BadQuestion(WherryError):
    """A request that cannot be read."""


def service_from(raw: bytes) -> str:
    """Return the service that a HealthCheckRequest asks about; empty is the server as a whole.

    Raises:
        BadQuestion: It is none.
    """
    try:
        return _bounded(HEALTH["HealthCheckRequest"].FromString(raw).service)
    except DecodeError as error:
        raise BadQuestion(f"health check: {error}, expected a HealthCheckRequest") from None


def status_bytes(status: ServingStatus) -> bytes:
    """Return a HealthCheckResponse."""
    return bytes(HEALTH["HealthCheckResponse"](status=int(status)).SerializeToString())


def statuses_bytes(statuses: Mapping[str, ServingStatus]) -> bytes:
    """Return a HealthListResponse."""
    listed = {name: {"status": int(status)} for name, status in statuses.items()}
    return bytes(HEALTH["HealthListResponse"](statuses=listed).SerializeToString())


def question_from(raw: bytes) -> Question:
    """Read a ServerReflectionRequest of either version.

    Raises:
        BadQuestion: It is none, or asks nothing that we know.
    """
    try:
        message = REFLECTION["ServerReflectionRequest"].FromString(raw)
    except DecodeError as error:
        raise BadQuestion(f"reflection: {error}, expected a ServerReflectionRequest") from None
    kind = message.WhichOneof("message_request")
    match kind:
        case None:
            raise BadQuestion("reflection: nothing asked, expected one of its questions")
        case "file_containing_extension":
            name = message.file_containing_extension.containing_type
        case _:
            name = getattr(message, kind)
    return Question(kind, _bounded(name), raw)


def services_bytes(question: Question, services: Iterable[str]) -> bytes:
    """Return the answer that lists services."""
    listed = {"service": [{"name": name} for name in services]}
    return _answer(question, list_services_response=listed)


def files_bytes(question: Question, files: Iterable[bytes]) -> bytes:
    """Return the answer that holds file descriptors."""
    return _answer(question, file_descriptor_response={"file_descriptor_proto": list(files)})


def no_extensions_bytes(question: Question) -> bytes:
    """Return the answer that a message has no extensions."""
    return _answer(question, all_extension_numbers_response={"base_type_name": question.name})


def error_bytes(question: Question, code: int, text: str) -> bytes:
    """Return the answer that there is none.

    Args:
        question: What was asked.
        code: Number of a gRPC status.
        text: Why.
    """
    return _answer(question, error_response={"error_code": code, "error_message": text})


def _answer(question: Question, **fields: object) -> bytes:
    message = REFLECTION["ServerReflectionResponse"](**fields)
    message.original_request.ParseFromString(question.raw)
    message.valid_host = message.original_request.host
    return bytes(message.SerializeToString())


def _bounded(name: str) -> str:
    if len(name) > MAX_NAME:
        raise BadQuestion(f"name: {len(name)} characters, expected at most {MAX_NAME}")
    return name
