"""Functions: created, shown, listed, changed and deleted.

Source: AWS Lambda API Reference, CreateFunction and the operations around it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.code.origin import Code
from faas.functions.aliases import STALE
from faas.functions.control import Functions
from faas.functions.layers import Layers
from faas.functions.states import check_settled
from faas.lambda_errors import InvalidParameter, PreconditionFailed
from faas.model.concurrency import RESERVED, Reserved
from faas.model.function import LATEST, Function, Reference
from faas.operations.destinations import Destinations
from faas.operations.names import Target, asked_for
from faas.operations.paging import page
from faas.operations.settings import machine, refuse_unsupported, settings_of
from faas.operations.shapes import configuration
from faas.records import Records

MAX_NAME = 64


class FunctionOperations:
    """CreateFunction, GetFunction, UpdateFunctionCode and the rest of their kind."""

    def __init__(self, functions: Functions, layers: Layers, code: Code) -> None:
        self._functions = functions
        self._registry = functions.registry
        self._layers = layers
        self._code = code
        self._destinations = Destinations(functions.registry)
        self._reserved = Records(functions.registry.store, RESERVED, Reserved)

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.get_configuration,
            "ListFunctions": self.list,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
            "DeleteFunction": self.delete,
        }

    async def create(self, asked: Asked) -> Answered:
        """CreateFunction."""
        name = self._new_name(asked)
        refuse_unsupported(asked.parameters)
        refuse_unsupported(asked["Code"])
        settings = settings_of(asked.parameters, machine=machine())
        settings.setdefault("architecture", machine())
        await self._check_letters(settings, name)
        image = asked.get("PackageType", "Zip") == "Image"
        _check_kind(asked.parameters, image=image)
        code = await self._taken(asked["Code"], image=image)
        if image:
            settings |= {"runtime": "", "handler": ""}
        else:
            size = await self._code.size(code["digest"]) if asked.get("Layers") else 0
            settings["layers"] = await self._layers.use(asked.get("Layers", ()), unzipped=size)
        function = await self._functions.create(
            name, settings | code, publish=bool(asked.get("Publish"))
        )
        return Answered(configuration(function, updates=False))

    async def get(self, asked: Asked) -> Answered:
        """GetFunction."""
        about, function = await self._found(asked)
        members: dict[str, Any] = {
            "Configuration": configuration(function, qualifier=_shown(about)),
            "Code": self._location(function, asked),
        }
        latest = await self._registry.get(Reference(about.name))
        if latest.tags:
            members["Tags"] = dict(latest.tags)
        reserved = await self._reserved.get(about.name)
        if reserved is not None:
            members["Concurrency"] = {"ReservedConcurrentExecutions": reserved.count}
        return Answered(members)

    async def get_configuration(self, asked: Asked) -> Answered:
        """GetFunctionConfiguration."""
        about, function = await self._found(asked)
        return Answered(configuration(function, qualifier=_shown(about)))

    async def list(self, asked: Asked) -> Answered:
        """ListFunctions: by name; with ``FunctionVersion`` ALL, every version of each."""
        everything = asked.get("FunctionVersion") == "ALL"
        if asked.get("MasterRegion") and not everything:
            raise InvalidParameter("MasterRegion: expected FunctionVersion to be ALL with it")
        found: dict[str, Function] = {}
        if not asked.get("MasterRegion"):
            registry = self._registry
            functions = await (registry.every() if everything else registry.list())
            found = {_key(each): each for each in functions}
        functions, more = page(found, asked)
        shapes = [
            configuration(each, qualifier=each.version if everything else "") for each in functions
        ]
        return Answered({"Functions": shapes, **more})

    async def update_code(self, asked: Asked) -> Answered:
        """UpdateFunctionCode."""
        refuse_unsupported(asked.parameters)
        name = asked_for(self._registry, asked).name
        found = await self._registry.get(Reference(name))
        _check_current(found, asked)
        image = found.package_type == "Image"
        if image and not asked.get("ImageUri"):
            raise InvalidParameter(
                "Please provide ImageUri when updating a function with packageType Image."
            )
        if not image and asked.get("ImageUri"):
            raise InvalidParameter(
                "Please don't provide ImageUri when updating a function with packageType Zip."
            )
        architecture = {"Architectures": asked.get("Architectures")}
        changes = settings_of(architecture, machine=machine(), before=found)
        changes |= await self._taken(asked.parameters, image=image)
        if found.layers:
            await self._code.check_size(changes["digest"], found.layers)
        if asked.get("DryRun"):
            return Answered(configuration(replace(found, **changes)))
        publish = bool(asked.get("Publish"))
        function = await self._functions.update(
            Reference(name), changes, revision=asked.get("RevisionId"), publish=publish
        )
        return Answered(configuration(function, qualifier=function.version if publish else ""))

    async def update_configuration(self, asked: Asked) -> Answered:
        """UpdateFunctionConfiguration."""
        refuse_unsupported(asked.parameters)
        name = asked_for(self._registry, asked).name
        found = await self._registry.get(Reference(name))
        _check_current(found, asked)
        _check_kind(asked.parameters, image=found.package_type == "Image", new=False)
        changes = settings_of(asked.parameters, machine=machine(), before=found)
        await self._check_letters(changes, name)
        if asked.get("Layers") is not None:
            layers = asked["Layers"]
            size = await self._code.size(found.digest) if layers else 0
            changes["layers"] = await self._layers.use(layers, unzipped=size)
        function = await self._functions.update(
            Reference(name), changes, revision=asked.get("RevisionId")
        )
        return Answered(configuration(function))

    async def delete(self, asked: Asked) -> Answered:
        """DeleteFunction: the whole of it, or one version."""
        about = asked_for(self._registry, asked)
        await self._functions.delete(about.reference)
        return Answered(status=204)

    def _new_name(self, asked: Asked) -> str:
        text = asked["FunctionName"]
        name = text.rpartition(":")[2]
        if len(name) > MAX_NAME:
            raise InvalidParameter(
                f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy "
                f"constraint: Member must have length less than or equal to {MAX_NAME}"
            )
        about = asked_for(self._registry, asked)
        if about.qualified:
            raise InvalidParameter(
                f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy "
                "constraint: a function is created without a qualifier"
            )
        return about.name

    async def _taken(self, code: Mapping[str, Any], *, image: bool) -> dict[str, Any]:
        """Return the fields of `Function` that say what its code is."""
        if not image:
            package = await self._code.package(code)
            return {"digest": package.digest, "code_size": package.size}
        taken = await self._code.image(code["ImageUri"])
        return {
            "digest": taken.digest,
            "code_size": taken.size,
            "package_type": "Image",
            "image_uri": code["ImageUri"],
            "image_manifest": taken.manifest,
        }

    async def _check_letters(self, settings: Mapping[str, Any], name: str) -> None:
        """Refuse a dead-letter queue that takes no letters."""
        await self._destinations.checked(
            settings.get("dead_letter", ""), function=name, functions=False
        )

    async def _found(self, asked: Asked) -> tuple[Target, Function]:
        about = asked_for(self._registry, asked)
        return about, await self._registry.get(about.reference)

    def _location(self, function: Function, asked: Asked) -> dict[str, str]:
        if function.package_type == "Image":
            repository = function.image_uri.partition("@")[0]
            head, _, tag = repository.rpartition(":")
            if head and "/" not in tag:
                repository = head
            return {
                "RepositoryType": "ECR",
                "ImageUri": function.image_uri,
                "ResolvedImageUri": f"{repository}@sha256:{function.code_sha256}",
            }
        location = self._code.location(function.digest, asked)
        return {"RepositoryType": "S3", "Location": location}


def _shown(about: Target) -> str:
    """Return the qualifier that the caller's answer has in its ARN."""
    return about.qualifier if about.qualified else ""


def _key(function: Function) -> str:
    """Return what functions are listed by: name, then version, `LATEST` first."""
    number = 0 if function.version == LATEST else int(function.version)
    return f"{function.name}\0{number:010d}"


def _check_current(function: Function, asked: Asked) -> None:
    """Refuse a request that cannot be granted before its code is fetched."""
    revision = asked.get("RevisionId")
    if revision and revision != function.revision:
        raise PreconditionFailed(STALE)
    if not asked.get("DryRun"):
        check_settled(function)


def _check_kind(parameters: Mapping[str, Any], *, image: bool, new: bool = True) -> None:
    """Refuse what does not go with a zip, or with an image.

    Raises:
        InvalidParameter: Something does not, or is missing.
    """
    code = parameters.get("Code") or {}
    if image:
        if any(parameters.get(name) for name in ("Runtime", "Handler", "Layers")):
            raise InvalidParameter(
                "Please don't provide Handler or Runtime or Layer when the intended function "
                "PackageType is Image."
            )
        if new and not code.get("ImageUri"):
            raise InvalidParameter(
                "Please provide ImageUri when creating a function with packageType Image."
            )
        return
    if code.get("ImageUri"):
        raise InvalidParameter(
            "Please don't provide ImageUri when creating a function with packageType Zip."
        )
    if parameters.get("ImageConfig"):
        raise InvalidParameter(
            "Please don't provide ImageConfig when the intended function PackageType is Zip."
        )
    if new and not (parameters.get("Runtime") and parameters.get("Handler")):
        raise InvalidParameter(
            "Runtime and Handler are mandatory parameters for functions created with deployment "
            "packages."
        )
