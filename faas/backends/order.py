"""What an instance is told to run: the document of a LAUNCH frame, from a `Launch`. Pure."""

from faas.backends.environment import environment
from faas.guest.order import Disk, Order
from faas.vm import Launch

PROCESSES = 1024
"""Most processes and threads of one function, as Lambda allows."""
CODE, LAYERS, LANGUAGE, TMP = "/dev/vdc", "/dev/vdd", "/dev/vde", "/dev/vdf"
CONTAINER = "/container"
NODE_RIC = "/var/lang/ric/index.mjs"
_NODE_SPARE = 640 << 20
"""What V8 sets aside beside its heap: code, stacks of its threads, WebAssembly."""
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"


def kind(launch: Launch) -> str:
    """Return which way a launch's runtime starts: see `Order.kind`."""
    if launch.container is not None:
        return "container"
    for prefix in ("python", "nodejs"):
        if launch.runtime.startswith(prefix):
            return prefix.removesuffix("js")
    return "provided"


def order(
    launch: Launch, *, devices: bool, snap_start: bool, uid: int | None, limited: bool = True
) -> Order:
    """Return what the agent is told.

    Args:
        launch: What will run.
        devices: Whether code, layers and language come as disks; otherwise they are there.
        snap_start: Whether the runtime stops at its restore point after init.
        uid: Whom the function runs as; None: as the agent.
        limited: Whether something else limits the function's memory: a machine, a control
            group. Otherwise each process has a limit of its own.
    """
    how = kind(launch)
    function = launch.environment
    wrapper = function.get(_WRAPPER, "") if how in ("python", "node") else ""
    container = launch.container
    boxed = container is not None and devices
    return {
        "kind": how,
        "command": _command(launch, how),
        "wrapper": wrapper,
        "directory": container.working_directory if container else "/var/task",
        "environment": environment(launch, snap_start=snap_start),
        "root": CONTAINER if boxed else None,
        "image": LANGUAGE if boxed else None,
        "disks": _disks(launch, how) if devices else [],
        "data_limit": 0 if limited else _data_limit(launch, how),
        "processes": PROCESSES,
        "uid": uid,
        "function": launch.function,
        "version": launch.version,
        "handler": launch.handler,
        "account": launch.account,
        "memory_mib": launch.memory_mib,
        "initialization": launch.initialization,
    }


def _command(launch: Launch, how: str) -> list[str]:
    if launch.container is not None:
        return list(launch.container.command)
    if how == "python":
        return ["-s", "-P", "/var/runtime/bootstrap.py", launch.handler]
    if how == "node":
        return [
            "/var/lang/bin/node",
            "--max-http-header-size=81920",
            f"--max-semi-space-size={max(launch.memory_mib // 20, 1)}",
            f"--max-old-space-size={launch.memory_mib * 9 // 10}",
            NODE_RIC,
            launch.handler,
        ]
    return []


def _disks(launch: Launch, how: str) -> list[Disk]:
    disks: list[Disk] = [{"device": TMP, "at": "/tmp", "writable": True}]  # noqa: S108
    if how == "container":
        return disks
    disks.append(_disk(CODE, "/var/task"))
    if launch.layers:
        disks.append(_disk(LAYERS, "/opt"))
    if how == "node":
        disks.append(_disk(LANGUAGE, "/var/lang"))
    return disks


def _disk(device: str, at: str) -> Disk:
    return {"device": device, "at": at, "writable": False}


def _data_limit(launch: Launch, how: str) -> int:
    limit = launch.memory_mib << 20
    return limit + _NODE_SPARE if how == "node" else limit
