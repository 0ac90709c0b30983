"""Functions that a configuration declares: deployed from a directory, only when they changed."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from faas.build import Progress, built
from faas.control import Functions
from faas.lambda_errors import ResourceConflict
from faas.lambda_shapes import machine, settings_of
from faas.model.function import Function, Reference


@dataclass(frozen=True, slots=True)
class Declared:
    """A function as a configuration declares it.

    Attributes:
        name: 1 to 64 of ``A-Za-z0-9-_``.
        code_dir: Directory with the handler's module.
        handler: ``module.function``.
        timeout: Seconds that one invocation may take, 1 to 900.
        memory_mib: 128 to 10240.
    """

    name: str
    code_dir: Path
    handler: str = "app.handler"
    runtime: str = "python3.11"
    timeout: int = 3
    memory_mib: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def settings(self) -> dict[str, Any]:
        """Return the fields of `Function` that this sets, checked.

        Raises:
            InvalidParameter: A value is out of range.
        """
        request = {
            "Handler": self.handler,
            "Runtime": self.runtime,
            "Timeout": self.timeout,
            "MemorySize": self.memory_mib,
            "Environment": {"Variables": dict(self.environment)},
            "Description": self.description,
        }
        return settings_of(request, machine=machine()) | {"architecture": machine()}


async def deploy_directory(
    functions: Functions,
    declared: Declared,
    *,
    cache_dir: Path,
    progress: Progress = lambda _: None,
) -> Function:
    """Create or update the function from its directory; return it when it is ready.

    When neither the files nor the settings changed, it is only made ready, once a process.

    Raises:
        BuildError: The directory cannot be made into a package.
        InvalidParameter: A setting is out of range or the package is over a limit.
    """
    settings = declared.settings()
    loop = asyncio.get_running_loop()

    def report(text: str) -> None:
        loop.call_soon_threadsafe(progress, text)

    body = await asyncio.to_thread(built, declared.code_dir, cache_dir, report)
    package = await functions.registry.unpack(body)
    found = await functions.registry.find(declared.name)
    if found is None:
        try:
            created = await functions.create(declared.name, package, settings)
        except ResourceConflict:
            return await deploy_directory(
                functions, declared, cache_dir=cache_dir, progress=progress
            )
        return await functions.settled(created)
    changes = settings | {"digest": package.digest, "code_size": package.size}
    if replace(found, **changes) == found:
        return await functions.ready(found)
    updated = await functions.update(Reference(declared.name), changes)
    return await functions.settled(updated)
