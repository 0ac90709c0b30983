"""The variables that a runtime finds, as Lambda sets them."""

from collections.abc import Mapping

from faas.vm import Launch

_FIXED: Mapping[str, str] = {
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib",
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
}
_API = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}
_FOLDERS = {"LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime"}
_PROXY = "http://127.0.0.1:3128"
_NO_PROXY = "127.0.0.1,localhost"


def environment(launch: Launch, *, snap_start: bool) -> dict[str, str]:
    """Return all variables of a runtime; the function's own never displace Lambda's.

    Args:
        launch: What will run.
        snap_start: Whether the runtime stops at its restore point after init.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY"), _PROXY)
    direct = dict.fromkeys(("no_proxy", "NO_PROXY"), _NO_PROXY)
    reserved = {
        "AWS_LAMBDA_FUNCTION_NAME": launch.function,
        "AWS_LAMBDA_FUNCTION_VERSION": launch.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(launch.memory_mib),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if snap_start else launch.initialization,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{launch.function}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"[{launch.version}]{launch.digest[:32]}",
        "AWS_REGION": launch.region,
        "AWS_DEFAULT_REGION": launch.region,
        **_API,
    }
    if launch.json_logs:
        reserved["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
    if launch.log_level:
        reserved["AWS_LAMBDA_LOG_LEVEL"] = launch.log_level
    if launch.container is not None:
        image = launch.container.environment
        return {**proxy, **direct, **image, **launch.environment, **reserved}
    reserved |= {
        "_HANDLER": launch.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{launch.runtime}",
        **_FOLDERS,
    }
    libraries = _libraries(launch.runtime)
    return {**_FIXED, **libraries, **proxy, **direct, **launch.environment, **reserved}


def _libraries(runtime: str) -> dict[str, str]:
    """Return where a runtime finds modules in layers, besides the code itself."""
    if runtime.startswith("python"):
        return {"PYTHONPATH": "/var/runtime"}
    if runtime.startswith("nodejs"):
        major = runtime.removeprefix("nodejs").partition(".")[0]
        return {
            "NODE_PATH": f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:"
            "/var/runtime/node_modules:/var/task"
        }
    return {}
