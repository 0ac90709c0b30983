"""How an image's command runs its function: the runtime, the handler and the variables. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from faas.code.dependencies import PYTHON as VERSION
from faas.code.guess import NODE, OWN, PYTHON
from faas.model.function import MAX_ENVIRONMENT
from faas.oci.documents import Config, ImageError
from faas.oci.tree import Merged

MINOR = int(VERSION.partition(".")[2])
"""Of the Python that functions run on."""
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
_COMPILED = re.compile(r".*\.cpython-3(\d+)-[^/]*\.so")
_NOT_OURS = re.compile(
    r"PATH|HOME|HOSTNAME|PWD|SHLVL|TERM|LANG|LC_.*|TZ|GPG_KEY|PYTHON_.*|NODE_VERSION|YARN_VERSION"
    r"|LD_LIBRARY_PATH|AWS_.*|LAMBDA_.*|_HANDLER|_X_AMZN_.*|DEBIAN_FRONTEND|VIRTUAL_ENV"
    r"|PYTHONDONTWRITEBYTECODE|PIP_.*|NPM_.*"
)
"""Variables of images that say how the image was made, or that Lambda sets itself."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """How a function of an image is to run.

    Attributes:
        runtime: Lambda's name of it.
        handler: As the runtime reads it.
        environment: The image's variables that concern the function.
        dropped: Names of those that do not.
    """

    runtime: str
    handler: str
    environment: Mapping[str, str]
    dropped: tuple[str, ...]


def recognised(
    merged: Merged,
    config: Config,
    targets: Collection[str],
    *,
    runtime: str = "",
    handler: str = "",
) -> Recognised:
    """Return how the image's function runs, found to be there.

    Args:
        merged: The image's files.
        config: What it says of itself.
        targets: Paths of what was taken, see `port.Taken`.
        runtime: In place of what its command says; empty: none.
        handler: The same.

    Raises:
        ImageError: Its command does not say, its handler is not there, or it is compiled for
            another Python.
    """
    name = merged.name
    runtime = runtime or _runtime(merged, config)
    if not runtime:
        words = " ".join((*config.config.entry_point, *config.config.command)) or "no command"
        raise ImageError(
            f"image {name}: found {words!r}, expected a command that runs Python or Node on "
            "Lambda, or a bootstrap; name what it is with --runtime and --handler"
        )
    if not handler and runtime.startswith("provided"):
        handler = (config.config.command or ("bootstrap",))[-1]
    handler = handler or (config.config.command[-1] if config.config.command else "")
    _check_handler(name, runtime, handler, targets)
    if runtime.startswith("python"):
        _check_compiled(name, targets)
    environment, dropped = _environment(config)
    return Recognised(runtime, handler, environment, dropped)


def _runtime(merged: Merged, config: Config) -> str:
    words = [*config.config.entry_point, *config.config.command]
    bases = {word.rpartition("/")[2] for word in words}
    languages = merged.find("var/lang/bin/node") or merged.find("var/lang/bin/python3")
    if merged.find("var/runtime/bootstrap") and not languages:
        return OWN
    if "awslambdaric" in bases or any(base.startswith("python") for base in bases):
        return PYTHON
    if bases & {"aws-lambda-ric", "node", "npx"}:
        return NODE
    if merged.find("var/lang/bin/python3"):
        return PYTHON
    if merged.find("var/lang/bin/node"):
        return NODE
    return OWN if merged.find("var/task/bootstrap") else ""


def _check_handler(name: str, runtime: str, handler: str, targets: Collection[str]) -> None:
    module, dot, function = handler.rpartition(".")
    if runtime.startswith("provided"):
        if "bootstrap" not in targets:
            raise ImageError(f"image {name}: no bootstrap among the function's files, expected one")
        return
    if not (module and dot and function):
        raise ImageError(
            f"image {name}: CMD ends with {handler!r}, expected a handler such as app.handler; "
            "name it with --handler"
        )
    python = runtime.startswith("python")
    path = module.replace(".", "/") if python else module
    endings = (".py", "/__init__.py", ".so") if python else (".js", ".mjs", ".cjs", "/index.js")
    roots = ("", "python/") if python else ("",)
    if not any(f"{root}{path}{ending}" in targets for root in roots for ending in endings):
        raise ImageError(
            f"image {name}: handler {handler}: no {path}{endings[0]} among the function's files, "
            "expected it there; name another with --handler"
        )


def _check_compiled(name: str, targets: Collection[str]) -> None:
    for target in sorted(targets):
        compiled = _COMPILED.fullmatch(target)
        if compiled and int(compiled[1]) != MINOR:
            raise ImageError(
                f"image {name}: {target} is compiled for Python 3.{compiled[1]}, expected 3.{MINOR}"
                "; build the image from a Python that functions have, or run it as it is with "
                "wherry fn deploy --image"
            )


def _environment(config: Config) -> tuple[Mapping[str, str], tuple[str, ...]]:
    kept, dropped = {}, []
    for name, value in config.environment.items():
        if _NOT_OURS.fullmatch(name) or not _VARIABLE.fullmatch(name):
            dropped.append(name)
        else:
            kept[name] = value
    size = sum(len(name) + len(value) for name, value in kept.items())
    if size > MAX_ENVIRONMENT:
        raise ImageError(
            f"image's variables: found {size} bytes, expected at most {MAX_ENVIRONMENT}"
        )
    return kept, tuple(sorted(dropped))
