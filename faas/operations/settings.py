"""What a request says of how a function is to run, checked: requests to fields.

Source: AWS Lambda API Reference, CreateFunction and UpdateFunctionConfiguration.
"""

import json
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from faas.api.faults import ValidationFault
from faas.functions.served import OFFERED, served
from faas.lambda_errors import InvalidParameter
from faas.model.function import MAX_ENVIRONMENT, Function, ImageConfig, Logging, Vpc
from faas.operations.tags import checked

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
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")

_REFUSED: Mapping[str, str] = {
    "FileSystemConfigs": "there is no network file system to mount",
    "CodeSigningConfigArn": "packages are known by their content, not by a signature",
    "TenancyConfig": "instances are not kept apart by tenant",
    "CapacityProviderConfig": "functions run on this machine",
    "DurableConfig": "executions do not outlive their timeout",
    "RuntimeConfig": "runtimes are those that Wherry brings",
    "AcceleratorConfig": "sandboxes have no accelerators",
    "PublishTo": "versions are published by number",
    "SourceKMSKeyArn": "packages are kept as they come",
}
"""Parameters that would have no effect here, each with the reason."""


def machine() -> str:
    """Return the only architecture that functions can have here."""
    return "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"


def refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    """Say so when a request asks for something that would have no effect here.

    Raises:
        InvalidParameter: It does.
    """
    for name, value in parameters.items():
        if name in _REFUSED and _asks(value):
            raise InvalidParameter(
                f"{name} is not supported by Wherry: {_REFUSED[name]}; expected it left out"
            )


def settings_of(
    parameters: Mapping[str, Any], *, machine: str, before: Function | None = None
) -> dict[str, Any]:
    """Return the fields of `Function` that a request sets, checked.

    Args:
        parameters: Of CreateFunction or UpdateFunctionConfiguration.
        machine: The only architecture that functions can have here.
        before: The function that is updated; None: a new one.

    Raises:
        InvalidParameter: A value is out of range.
        ValidationFault: A number is over its limit.
    """
    fields = {
        field: read(parameters[name], machine)
        for name, (field, read) in _FIELDS.items()
        if parameters.get(name) is not None
    }
    if parameters.get("LoggingConfig") is not None:
        logged = before.logging if before else Logging()
        fields["logging"] = _logging(parameters["LoggingConfig"], logged)
    if parameters.get("VpcConfig") is not None:
        fields["vpc"] = _vpc(parameters["VpcConfig"], before.vpc if before else Vpc())
    runtime = fields.get("runtime", before.runtime if before else "")
    if fields.get("snap_start", "None") != "None" and not runtime.startswith("python"):
        raise InvalidParameter(
            f"{runtime or 'A container image'} is not supported for SnapStart enabled functions."
        )
    return fields


def _asks(value: Any) -> bool:
    """Return whether anything stands in ``value``."""
    if isinstance(value, Mapping):
        return any(_asks(each) for each in value.values())
    return bool(value)


def _most(name: str, limit: int) -> Callable[[Any, str], int]:
    def read(value: Any, _machine: str) -> int:
        if value > limit:
            raise ValidationFault(
                f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy "
                f"constraint: Member must have value less than or equal to {limit}"
            )
        return int(value)

    return read


def _as_is(value: Any, _machine: str) -> Any:
    return value


def _member(name: str, default: Any = "") -> Callable[[Any, str], Any]:
    return lambda value, _machine: value.get(name, default)


def _runtime(value: str, _machine: str) -> str:
    if served(value) is None:
        raise InvalidParameter(
            f"Value {value[:80]} at 'runtime' failed to satisfy constraint: Member must satisfy "
            f"enum value set: [{', '.join(OFFERED)}] or be a valid ARN"
        )
    return value


def _architecture(value: Iterable[str], machine: str) -> str:
    asked = list(value)
    if asked != [machine]:
        raise InvalidParameter(
            f"Architectures: found [{', '.join(asked)}], expected [{machine}]: functions run on "
            "the processor that this machine has"
        )
    return machine


def _environment(value: Mapping[str, Any], _machine: str) -> dict[str, str]:
    variables = dict(value.get("Variables") or {})
    cannot = "Lambda was unable to configure your environment variables because the environment "
    reserved = sorted(_RESERVED & variables.keys())
    if reserved:
        raise InvalidParameter(
            f"{cannot}variables you have provided contains reserved keys that are currently not "
            f"supported for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    for name, text in variables.items():
        if not _VARIABLE.fullmatch(name) or "\0" in text:
            raise InvalidParameter(
                f"1 validation error detected: Value at 'environment.variables' failed to satisfy "
                f"constraint: {name[:80]!r}: expected names matching {_VARIABLE.pattern} and "
                "values without NUL"
            )
    size = len(json.dumps(variables, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_ENVIRONMENT:
        raise InvalidParameter(
            f"{cannot}variables you have provided exceeded the 4KB limit: found {size} bytes, "
            f"expected at most {MAX_ENVIRONMENT}"
        )
    return variables


def _logging(value: Mapping[str, Any], before: Logging) -> Logging:
    format_ = value.get("LogFormat", before.format)
    application, system = value.get("ApplicationLogLevel"), value.get("SystemLogLevel")
    if format_ == "Text":
        if application or system:
            raise InvalidParameter(
                "LoggingConfig: ApplicationLogLevel and SystemLogLevel can only be set with "
                "LogFormat JSON"
            )
        return Logging("Text", group=value.get("LogGroup", before.group))
    return Logging(
        format_,
        application or before.application_level or "INFO",
        system or before.system_level or "INFO",
        value.get("LogGroup", before.group),
    )


def _vpc(value: Mapping[str, Any], before: Vpc) -> Vpc:
    subnets = value.get("SubnetIds")
    groups = value.get("SecurityGroupIds")
    found = Vpc(
        before.subnets if subnets is None else tuple(subnets),
        before.security_groups if groups is None else tuple(groups),
        bool(value.get("Ipv6AllowedForDualStack", before.ipv6)),
    )
    if bool(found.subnets) != bool(found.security_groups):
        raise InvalidParameter("SubnetIds and SecurityIds must coexist or be both empty list.")
    return found


def _image_config(value: Mapping[str, Any], _machine: str) -> ImageConfig:
    return ImageConfig(
        tuple(value.get("EntryPoint") or ()),
        tuple(value.get("Command") or ()),
        value.get("WorkingDirectory") or "",
    )


_FIELDS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "Runtime": ("runtime", _runtime),
    "Handler": ("handler", _as_is),
    "Role": ("role", _as_is),
    "Description": ("description", _as_is),
    "Timeout": ("timeout", _most("timeout", 900)),
    "MemorySize": ("memory_mib", _most("memorySize", 10240)),
    "Environment": ("environment", _environment),
    "Tags": ("tags", lambda value, _machine: dict(checked(value))),
    "Architectures": ("architecture", _architecture),
    "EphemeralStorage": (
        "tmp_mib",
        lambda value, machine: _most("ephemeralStorage.size", 10240)(value["Size"], machine),
    ),
    "DeadLetterConfig": ("dead_letter", _member("TargetArn")),
    "KMSKeyArn": ("kms_key", _as_is),
    "TracingConfig": ("tracing", _member("Mode", "PassThrough")),
    "SnapStart": ("snap_start", _member("ApplyOn", "None")),
    "ImageConfig": ("image_config", _image_config),
}
