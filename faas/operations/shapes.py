"""Functions and aliases as the API shows them. Pure.

Source: AWS Lambda API Reference, FunctionConfiguration and AliasConfiguration.
"""

from typing import Any

from faas.model.alias import Alias
from faas.model.function import LATEST, Function, State, Update

Shape = dict[str, Any]
"""Members of an answer, by the names that boto3 uses."""


def configuration(function: Function, *, qualifier: str = "", updates: bool = True) -> Shape:
    """Return a function, or a version of it, as a FunctionConfiguration.

    Args:
        function: The function.
        qualifier: What its ARN ends in; empty: nothing.
        updates: Whether the status of the last update is shown.
    """
    shape: Shape = {
        "FunctionName": function.name,
        "FunctionArn": f"{function.arn}:{qualifier}" if qualifier else function.arn,
        "Role": function.role,
        "CodeSize": function.code_size,
        "Description": function.description,
        "Timeout": function.timeout,
        "MemorySize": function.memory_mib,
        "LastModified": function.modified,
        "CodeSha256": function.code_sha256,
        "Version": function.version,
        "TracingConfig": {"Mode": function.tracing},
        "RevisionId": function.revision,
        "PackageType": function.package_type,
        "Architectures": [function.architecture],
        "EphemeralStorage": {"Size": function.tmp_mib},
        "SnapStart": _snap_start(function),
        "LoggingConfig": _logging(function),
        **_state(function),
    }
    if function.package_type == "Image":
        shape["CodeSize"] = 0
        if overrides := _image_config(function):
            shape["ImageConfigResponse"] = {"ImageConfig": overrides}
    else:
        shape |= {"Runtime": function.runtime, "Handler": function.handler}
    if function.sealed:
        shape["Environment"] = {
            "Error": {
                "ErrorCode": "KMSAccessDeniedException",
                "Message": "The vault does not have the key that the variables were sealed with.",
            }
        }
    elif function.environment:
        shape["Environment"] = {"Variables": dict(function.environment)}
    if function.kms_key:
        shape["KMSKeyArn"] = function.kms_key
    if function.vpc.subnets:
        shape["VpcConfig"] = {
            "SubnetIds": list(function.vpc.subnets),
            "SecurityGroupIds": list(function.vpc.security_groups),
            "VpcId": "",
            "Ipv6AllowedForDualStack": function.vpc.ipv6,
        }
    if function.dead_letter:
        shape["DeadLetterConfig"] = {"TargetArn": function.dead_letter}
    if function.layers:
        shape["Layers"] = [{"Arn": use.arn, "CodeSize": use.size} for use in function.layers]
    if updates and function.state is not State.PENDING:
        shape |= _update(function)
    return shape


def alias_configuration(alias: Alias, arn: str) -> Shape:
    """Return an alias, whose ARN is ``arn``, as an AliasConfiguration."""
    shape: Shape = {
        "AliasArn": arn,
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision,
    }
    if alias.weights:
        shape["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.weights)}
    return shape


def _state(function: Function) -> Shape:
    shape: Shape = {"State": function.state.value}
    if function.state is State.PENDING:
        shape |= {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
    elif function.state is State.FAILED:
        shape |= {"StateReason": function.reason, "StateReasonCode": _code(function)}
    return shape


def _update(function: Function) -> Shape:
    shape: Shape = {"LastUpdateStatus": function.update.value}
    if function.update is Update.IN_PROGRESS:
        shape |= {
            "LastUpdateStatusReason": "The function is being created.",
            "LastUpdateStatusReasonCode": "Creating",
        }
    elif function.update is Update.FAILED:
        shape |= {
            "LastUpdateStatusReason": function.reason,
            "LastUpdateStatusReasonCode": _code(function),
        }
    return shape


def _code(function: Function) -> str:
    return function.reason_code or "InternalError"


def _snap_start(function: Function) -> Shape:
    optimized = function.snap_start != "None" and function.version != LATEST
    return {"ApplyOn": function.snap_start, "OptimizationStatus": "On" if optimized else "Off"}


def _logging(function: Function) -> Shape:
    logging = function.logging
    shape = {
        "LogFormat": logging.format,
        "ApplicationLogLevel": logging.application_level,
        "SystemLogLevel": logging.system_level,
        "LogGroup": logging.group or f"/aws/lambda/{function.name}",
    }
    return {name: value for name, value in shape.items() if value}


def _image_config(function: Function) -> Shape:
    config = function.image_config
    shape = {
        "EntryPoint": list(config.entry_point),
        "Command": list(config.command),
        "WorkingDirectory": config.working_directory,
    }
    return {name: value for name, value in shape.items() if value}
