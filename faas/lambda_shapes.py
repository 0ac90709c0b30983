"""The Lambda API's JSON shapes: requests to functions, functions to answers.

Source: AWS Lambda API Reference, 2015-03-31: CreateFunction, UpdateFunctionConfiguration,
FunctionConfiguration.
"""

import base64
import binascii
import platform
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from faas.lambda_errors import InvalidParameter, InvalidRequestContent
from faas.model.function import LATEST, Function, Update
from faas.package import checksum

Json = dict[str, Any]
"""What ``json.loads`` returns for an object."""

MAX_ENVIRONMENT = 4096
_RUNTIME = re.compile(r"python3\.\d{1,2}")
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
_RESERVED = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
    }
)
"""Source: AWS Lambda Developer Guide, "Reserved environment variables"."""

_EMPTY: tuple[object, ...] = (None, "", [], {}, False)
_WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {
    "DeadLetterConfig": ({"TargetArn": ""},),
    "EphemeralStorage": ({"Size": 512},),
    "FileSystemConfigs": (),
    "ImageConfig": (),
    "KMSKeyArn": (),
    "Layers": (),
    "LoggingConfig": ({"LogFormat": "Text"},),
    "PackageType": ("Zip",),
    "Publish": (),
    "SnapStart": ({"ApplyOn": "None"},),
    "TracingConfig": ({"Mode": "PassThrough"},),
    "VpcConfig": ({"SubnetIds": [], "SecurityGroupIds": []},),
}
"""Fields that Wherry has nothing for, each with the values that ask for nothing."""


def machine() -> str:
    """Return the only architecture that functions can have here."""
    return "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"


def refuse_unsupported(body: Json, served: frozenset[str]) -> None:
    """Say so when ``body`` asks for something that would have no effect here.

    Raises:
        InvalidParameter: A field is not in ``served`` and asks for something.
    """
    for name, value in body.items():
        if name not in served and value not in (*_EMPTY, *_WITHOUT_EFFECT.get(name, ())):
            raise InvalidParameter(f"{name} is not supported by Wherry yet, expected it left out")


def code_of(body: Json) -> bytes:
    """Return the package in ``ZipFile``.

    Raises:
        InvalidParameter: There is none, or the code is somewhere that Wherry does not fetch from.
    """
    for name in ("S3Bucket", "S3Key", "ImageUri"):
        if body.get(name):
            raise InvalidParameter(f"{name} is not supported by Wherry yet, expected ZipFile")
    text = body.get("ZipFile")
    if not isinstance(text, str) or not text:
        raise InvalidParameter("Please provide a source for function code: ZipFile is missing")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidRequestContent(f"ZipFile is not base64: {error}") from error


def settings_of(body: Json, *, machine: str) -> dict[str, Any]:
    """Return the fields of `Function` that ``body`` sets, checked.

    Args:
        body: A CreateFunction or UpdateFunctionConfiguration request.
        machine: The only architecture that functions can have here.

    Raises:
        InvalidParameter: A value is out of range.
    """
    return {
        field: read(body[name], machine)
        for name, (field, read) in _FIELDS.items()
        if body.get(name) is not None
    }


def configuration(function: Function) -> Json:
    """Return ``function`` as a FunctionConfiguration."""
    shape: Json = {
        "FunctionName": function.name,
        "FunctionArn": function.arn,
        "Runtime": function.runtime,
        "Role": function.role,
        "Handler": function.handler,
        "CodeSize": function.code_size,
        "Description": function.description,
        "Timeout": function.timeout,
        "MemorySize": function.memory_mib,
        "LastModified": function.modified,
        "CodeSha256": checksum(function.digest),
        "Version": LATEST,
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": function.revision,
        "State": function.state,
        "LastUpdateStatus": function.update,
        "PackageType": "Zip",
        "Architectures": [function.architecture],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.name}"},
    }
    if function.environment:
        shape["Environment"] = {"Variables": dict(function.environment)}
    if function.state == "Pending":
        shape |= {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
    elif function.state == "Failed":
        shape |= {"StateReason": function.reason, "StateReasonCode": "InternalError"}
    if function.update is Update.FAILED:
        shape["LastUpdateStatusReason"] = function.reason
        shape["LastUpdateStatusReasonCode"] = "InternalError"
    return shape


def tags_of(value: object) -> dict[str, str]:
    """Return a map of tags, checked.

    Raises:
        InvalidParameter: Not a map of at most 50 texts to texts.
    """
    tags = _texts("tags", value)
    if len(tags) > 50:  # noqa: PLR2004
        raise InvalidParameter(f"tags: found {len(tags)}, expected at most 50")
    return tags


def _text(name: str, most: int, pattern: str = r"(?s).*") -> Callable[[object, str], str]:
    checked = re.compile(pattern)

    def read(value: object, _machine: str) -> str:
        if not (isinstance(value, str) and len(value) <= most and checked.fullmatch(value)):
            raise _violation(name, value, f"text of at most {most} characters matching {pattern}")
        return value

    return read


def _number(name: str, least: int, most: int) -> Callable[[object, str], int]:
    def read(value: object, _machine: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _violation(name, value, f"a whole number of {least} to {most}")
        return value

    return read


def _runtime(value: object, _machine: str) -> str:
    if not (isinstance(value, str) and _RUNTIME.fullmatch(value)):
        raise _violation("runtime", value, "python3.N, the only runtimes that Wherry has yet")
    return value


def _architecture(value: object, machine: str) -> str:
    if value != [machine]:
        raise _violation(
            "architectures", value, f"[{machine}], the machine that functions run on here"
        )
    return machine


def _environment(value: object, _machine: str) -> dict[str, str]:
    fields = cast("Json", value) if isinstance(value, dict) else {}
    variables = _texts("environment.variables", fields.get("Variables") or {})
    reserved = sorted(_RESERVED & variables.keys())
    if reserved:
        raise InvalidParameter(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided contains reserved keys that are currently not supported "
            f"for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise _violation("environment.variables", name, f"names matching {_VARIABLE.pattern}")
    size = sum(len(f"{name}{text}".encode()) for name, text in variables.items())
    if size > MAX_ENVIRONMENT:
        raise InvalidParameter(
            "Lambda was unable to configure your environment variables because the environment "
            f"variables you have provided exceeded the {MAX_ENVIRONMENT} byte limit: found {size}"
        )
    return variables


def _texts(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(text, str) and "\0" not in text
        for key, text in value.items()
    ):
        raise _violation(name, type(value).__name__, "a map of texts to texts")
    return dict(value)


def _violation(name: str, found: object, expected: str) -> InvalidParameter:
    return InvalidParameter(
        f"1 validation error detected: Value {str(found)[:80]!r} at '{name}' failed to satisfy "
        f"constraint: expected {expected}"
    )


_FIELDS: Mapping[str, tuple[str, Callable[[object, str], Any]]] = {
    "Runtime": ("runtime", _runtime),
    "Handler": ("handler", _text("handler", 128, r"\S+")),
    "Role": ("role", _text("role", 2048)),
    "Description": ("description", _text("description", 256)),
    "Timeout": ("timeout", _number("timeout", 1, 900)),
    "MemorySize": ("memory_mib", _number("memorySize", 128, 10240)),
    "Environment": ("environment", _environment),
    "Tags": ("tags", lambda value, _machine: tags_of(value)),
    "Architectures": ("architecture", _architecture),
}
CONFIGURATION_FIELDS = frozenset(_FIELDS)
"""The request fields that `settings_of` reads."""
