"""The variables that a runtime finds, as Lambda sets them."""

from collections.abc import Mapping

from faas.vm import Launch

_FIXED: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib",
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
    "PYTHONPATH": "/var/runtime",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
}
_PROXY = "http://127.0.0.1:3128"
_NO_PROXY = "127.0.0.1,localhost"


def environment(launch: Launch, *, region: str = "us-east-1", snap_start: bool) -> dict[str, str]:
    """Return all variables of a runtime; the function's own never displace Lambda's.

    Args:
        launch: What will run.
        region: Put into ``AWS_REGION``.
        snap_start: Whether the runtime stops at its restore point after init.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY"), _PROXY)
    direct = dict.fromkeys(("no_proxy", "NO_PROXY"), _NO_PROXY)
    reserved = {
        "_HANDLER": launch.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{launch.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": launch.function,
        "AWS_LAMBDA_FUNCTION_VERSION": launch.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(launch.memory_mib),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if snap_start else "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{launch.function}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"[{launch.version}]{launch.digest[:32]}",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }
    return {**_FIXED, **proxy, **direct, **launch.environment, **reserved, **_RESERVED_FIXED}


_RESERVED_FIXED = {
    name: _FIXED[name]
    for name in ("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_RUNTIME_API")
}
