"""Functions that a configuration declares: deployed from a directory, only when they changed."""

import asyncio
import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from faas.api.asked import Asked, Operation
from faas.code.build import BuildError, Progress, built
from faas.code.package import Package
from faas.code.packed import files_of, zipped
from faas.functions.control import Functions
from faas.lambda_errors import InvalidParameter, ResourceConflict, ResourceNotFound
from faas.model.function import LATEST, Function, LayerUse, Reference
from faas.oci import images
from faas.operations.concurrency import Account
from faas.operations.settings import machine, settings_of
from faas.urls.access import ACTION
from wherry.model.function import DeliverySpec, UrlSpec
from wherry.model.function import Function as Written
from wherry.model.resource import seconds

PUBLIC = "FunctionURLAllowPublicAccess"
"""Id of the statement that lets everybody use a URL which is declared with ``auth: NONE``."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A function as a configuration declares it.

    Attributes:
        name: 1 to 64 of ``A-Za-z0-9-_``.
        code_dir: Directory with the handler's module; of no interest with an image.
        handler: ``module.function``.
        timeout: Seconds that one invocation may take, 1 to 900.
        memory_mib: 128 to 10240.
        image: Where its container image is; empty: it has none.
        layers: Folders, or ARNs of layer versions.
        tmp_mib: Size of ``/tmp``, 512 to 10240.
        dead_letter: ARN of a queue; empty: none.
        reserved: Instances that it may use, and no other; None: as many as are free.
        provisioned: Instances of it that are kept ready; None: none.
        url: Its own HTTP door; None: none.
        delivery: How its asynchronous events are tried again; None: as Lambda does it.
        schedule: When it runs by itself, for `Schedules.declare`.
    """

    name: str
    code_dir: Path
    handler: str = "app.handler"
    runtime: str = "python3.11"
    timeout: int = 3
    memory_mib: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    image: str = ""
    layers: tuple[Path | str, ...] = ()
    tmp_mib: int = 512
    dead_letter: str = ""
    reserved: int | None = None
    provisioned: int | None = None
    url: UrlSpec | None = None
    delivery: DeliverySpec | None = None
    schedule: tuple[str, ...] = ()

    @classmethod
    def of(cls, written: Written, folder: Path) -> Self:
        """Return what a configuration's function is.

        Args:
            written: As its file says it.
            folder: Of that file.
        """
        spec = written.spec
        return cls(
            written.name,
            folder / (spec.code or ""),
            spec.handler or "",
            spec.runtime,
            timeout=max(1, round(seconds(spec.timeout))),
            memory_mib=spec.memory_mib,
            environment=spec.environment,
            image=_image(spec.image or "", folder),
            layers=tuple(
                each if each.startswith("arn:") else folder / each for each in spec.layers
            ),
            tmp_mib=spec.tmp_mib,
            dead_letter=spec.dead_letter or "",
            reserved=spec.reserved_concurrency,
            provisioned=spec.provisioned_concurrency,
            url=spec.url,
            delivery=spec.delivery,
            schedule=tuple(spec.schedule),
        )

    def settings(self) -> dict[str, Any]:
        """Return the fields of `Function` that this sets, checked.

        Raises:
            InvalidParameter: A value is out of range.
        """
        request = {
            "Timeout": self.timeout,
            "MemorySize": self.memory_mib,
            "Environment": {"Variables": dict(self.environment)},
            "Description": self.description,
            "EphemeralStorage": {"Size": self.tmp_mib},
            "DeadLetterConfig": {"TargetArn": self.dead_letter},
        }
        if self.image:
            fields = settings_of(request, machine=machine()) | {"runtime": "", "handler": ""}
        else:
            request |= {"Handler": self.handler, "Runtime": self.runtime}
            fields = settings_of(request, machine=machine())
        return fields | {"architecture": machine()}


async def deploy_directory(
    functions: Functions,
    declared: Declared,
    *,
    operations: Mapping[str, Operation],
    cache_dir: Path,
    progress: Progress = lambda _: None,
) -> Function:
    """Create or update the function from its directory; return it when it is ready.

    When neither the files nor the settings changed, it is only made ready, once a process. What
    it is not declared to have any more (a URL, promised instances) goes.

    Raises:
        BuildError: The directory cannot be made into a package.
        ImageError: Its image cannot be had.
        InvalidParameter: A setting is out of range or the package is over a limit.
    """
    loop = asyncio.get_running_loop()

    def report(text: str) -> None:
        loop.call_soon_threadsafe(progress, text)

    do = _Do(operations, declared.name)
    settings = declared.settings()
    settings |= await _code(functions, declared, cache_dir, report)
    settings["layers"] = tuple([await _layer(do, functions, each) for each in declared.layers])
    function = await _put(functions, declared.name, settings)
    await _promised(do, functions, declared)
    await _reached(do, declared)
    await _delivered(do, declared)
    return function


async def _put(functions: Functions, name: str, settings: dict[str, Any]) -> Function:
    """Have the function with these fields, ready."""
    while True:
        found = await functions.registry.find(name)
        if found is not None:
            found = await functions.settled(found)
            if replace(found, **settings) == found:
                return await functions.ready(found)
            updated = await functions.update(Reference(name), settings)
            return await functions.settled(updated)
        try:
            return await functions.settled(await functions.create(name, settings))
        except ResourceConflict:
            continue


async def _code(
    functions: Functions, declared: Declared, cache_dir: Path, report: Progress
) -> dict[str, Any]:
    """Return the fields of `Function` that say what its code is."""
    if declared.image:
        taken = await images.taken(declared.image, functions.registry.code_dir, report)
        return {
            "digest": taken.digest,
            "code_size": taken.size,
            "package_type": "Image",
            "image_uri": declared.image,
            "image_manifest": taken.manifest,
        }
    body = await asyncio.to_thread(
        built, declared.code_dir, cache_dir, report, runtime=declared.runtime
    )
    package = await functions.registry.unpack(body)
    return {"digest": package.digest, "code_size": package.size}


class _Do:
    """The Lambda API's operations, called in this process about one function."""

    def __init__(self, operations: Mapping[str, Operation], name: str) -> None:
        self._operations, self.name = operations, name

    async def __call__(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        asked = Asked(operation, parameters, str(uuid.uuid4()), "")
        return (await self._operations[operation](asked)).members

    async def on(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Do it to the function."""
        return await self(operation, FunctionName=self.name, **parameters)

    async def found(self, operation: str, **parameters: Any) -> Mapping[str, Any] | None:
        """Do it to the function; None when there is no such thing."""
        try:
            return await self.on(operation, **parameters)
        except ResourceNotFound:
            return None


async def _layer(do: _Do, functions: Functions, source: Path | str) -> LayerUse:
    """Return a layer version: the one with that ARN, or the one with a folder's content."""
    if isinstance(source, str):
        try:
            found = await do("GetLayerVersionByArn", Arn=source)
        except ResourceNotFound:
            raise InvalidParameter(f"Layer version {source} does not exist.") from None
    else:
        body = await asyncio.to_thread(_packed, source)
        package: Package = await functions.registry.unpack(body)
        name = f"folder-{package.digest[:16]}"
        versions = (await do("ListLayerVersions", LayerName=name))["LayerVersions"]
        if versions:
            arn = versions[0]["LayerVersionArn"]
            found = await do("GetLayerVersionByArn", Arn=arn)
        else:
            found = await do(
                "PublishLayerVersion",
                LayerName=name,
                Content={"ZipFile": body},
                Description=f"folder {source.name}"[:256],
            )
    content = found["Content"]
    digest = base64.b64decode(content["CodeSha256"]).hex()
    return LayerUse(found["LayerVersionArn"], digest, content["CodeSize"])


def _packed(folder: Path) -> bytes:
    if not folder.is_dir():
        raise BuildError(f"layer {folder}: not found, expected a folder")
    return zipped(f"layer {folder}", files_of(folder))


async def _promised(do: _Do, functions: Functions, declared: Declared) -> None:
    """Have the concurrency that is declared, and no other.

    Instances are kept ready for the plain name, which is what gateway, schedules and URL call.
    """
    account = Account(functions.registry, functions.workers.shares.account)
    wanted = declared.provisioned or 0
    if wanted < functions.provisioned(declared.name, LATEST)[1]:
        await functions.keep_ready(declared.name, wanted)
    if declared.reserved is not None:
        await do.on("PutFunctionConcurrency", ReservedConcurrentExecutions=declared.reserved)
    elif await do.on("GetFunctionConcurrency"):
        await do.on("DeleteFunctionConcurrency")
    if wanted:
        await account.check_room(declared.name, LATEST, wanted)
    await functions.keep_ready(declared.name, wanted)


async def _reached(do: _Do, declared: Declared) -> None:
    """Have the URL that is declared, and no other."""
    url = declared.url
    known = await do.found("GetFunctionUrlConfig")
    if url is not None:
        wanted: dict[str, Any] = {"AuthType": url.auth, "InvokeMode": url.mode}
        if url.cors is not None:
            cors = url.cors.model_dump(exclude={"max_age"})
            named = {"".join(map(str.capitalize, key.split("_"))): v for key, v in cors.items()}
            wanted["Cors"] = {**named, "MaxAge": round(seconds(url.cors.max_age))}
        await do.on(f"{'Create' if known is None else 'Update'}FunctionUrlConfig", **wanted)
    elif known is not None:
        await do.on("DeleteFunctionUrlConfig")
    public, opened = url is not None and url.auth == "NONE", await _is_public(do)
    if public and not opened:
        await do.on(
            "AddPermission",
            StatementId=PUBLIC,
            Action=ACTION,
            Principal="*",
            FunctionUrlAuthType="NONE",
        )
    elif opened and not public:
        await do.on("RemovePermission", StatementId=PUBLIC)


async def _is_public(do: _Do) -> bool:
    """Return whether everybody was let in by an earlier configuration."""
    found = await do.found("GetPolicy")
    statements = [] if found is None else json.loads(found["Policy"])["Statement"]
    return any(each.get("Sid") == PUBLIC for each in statements)


async def _delivered(do: _Do, declared: Declared) -> None:
    """Have the delivery that is declared, and no other."""
    delivery = declared.delivery
    if delivery is not None:
        targets = {"OnSuccess": delivery.on_success, "OnFailure": delivery.on_failure}
        await do.on(
            "PutFunctionEventInvokeConfig",
            MaximumRetryAttempts=delivery.retries,
            MaximumEventAgeInSeconds=round(seconds(delivery.max_age)),
            DestinationConfig={
                key: {"Destination": arn} for key, arn in targets.items() if arn is not None
            },
        )
    elif await do.found("GetFunctionEventInvokeConfig") is not None:
        await do.on("DeleteFunctionEventInvokeConfig")


def _image(text: str, folder: Path) -> str:
    """Return an image's place with its path, if it is one, made from the file's folder."""
    return str((folder / text).resolve()) if text.startswith(("./", "../")) else text
