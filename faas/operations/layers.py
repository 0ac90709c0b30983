"""Layers and who else may use them.

Source: AWS Lambda API Reference, PublishLayerVersion and the operations around it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.code.origin import Code
from faas.code.package import checksum
from faas.functions.layers import Layers, key_of
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.model.layer import LayerVersion
from faas.model.policy import LAYER_PREFIX
from faas.operations.paging import page
from faas.operations.policies import Policies
from wherry.store import Store

_ACCOUNT = re.compile(r"\d{12}")


class LayerOperations:
    """PublishLayerVersion, GetLayerVersion, ListLayers and the rest of their kind."""

    def __init__(self, layers: Layers, code: Code, store: Store) -> None:
        self._layers = layers
        self._code = code
        self._policies = Policies(store, LAYER_PREFIX, "GetLayerVersionPolicy")

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "PublishLayerVersion": self.publish,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "ListLayerVersions": self.list_versions,
            "ListLayers": self.list_layers,
            "DeleteLayerVersion": self.delete,
            "AddLayerVersionPermission": self.permit,
            "RemoveLayerVersionPermission": self.forbid,
            "GetLayerVersionPolicy": self.policy,
        }

    async def publish(self, asked: Asked) -> Answered:
        """PublishLayerVersion."""
        content = asked["Content"]
        if not (content.get("ZipFile") or content.get("S3Bucket")):
            raise InvalidParameter("Missing Content")
        package = await self._code.package(content)
        version = await self._layers.publish(
            self._layers.name_of(asked["LayerName"]),
            package,
            {
                "description": asked.get("Description", ""),
                "runtimes": tuple(asked.get("CompatibleRuntimes", ())),
                "architectures": tuple(asked.get("CompatibleArchitectures", ())),
                "license": asked.get("LicenseInfo", ""),
            },
        )
        return Answered(self._shape(version, asked))

    async def get(self, asked: Asked) -> Answered:
        """GetLayerVersion."""
        name, number = self._named(asked)
        found = await self._layers.find(name, number)
        if found is None:
            raise ResourceNotFound
        return Answered(self._shape(found, asked))

    async def get_by_arn(self, asked: Asked) -> Answered:
        """GetLayerVersionByArn."""
        return Answered(self._shape(await self._layers.get(asked["Arn"]), asked))

    async def list_versions(self, asked: Asked) -> Answered:
        """ListLayerVersions: newest first."""
        versions = await self._layers.versions(self._layers.name_of(asked["LayerName"]))
        matching = {
            key_of(one.name, one.version): _item(one) for one in versions if _matches(one, asked)
        }
        items, more = page(matching, asked, falling=True)
        return Answered({"LayerVersions": items, **more})

    async def list_layers(self, asked: Asked) -> Answered:
        """ListLayers: each with its newest version that matches."""
        newest = {
            name: next((one for one in versions if _matches(one, asked)), None)
            for name, versions in (await self._layers.list()).items()
        }
        items, more = page({name: one for name, one in newest.items() if one}, asked)
        layers = [
            {"LayerName": one.name, "LayerArn": one.arn, "LatestMatchingVersion": _item(one)}
            for one in items
        ]
        return Answered({"Layers": layers, **more})

    async def delete(self, asked: Asked) -> Answered:
        """DeleteLayerVersion; there need not be one."""
        name, number = self._named(asked)
        await self._layers.delete(name, number)
        return Answered()

    async def permit(self, asked: Asked) -> Answered:
        """AddLayerVersionPermission."""
        version = await self._present(asked)
        statement: dict[str, Any] = {
            "Sid": asked["StatementId"],
            "Effect": "Allow",
            "Principal": _principal(asked["Principal"]),
            "Action": asked["Action"],
            "Resource": version.version_arn,
        }
        if organization := asked.get("OrganizationId"):
            statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": organization}}
        key = key_of(version.name, version.version)
        revision = asked.get("RevisionId")
        policy, text = await self._policies.add(key, statement, revision=revision)
        return Answered({"Statement": text, "RevisionId": policy.revision})

    async def forbid(self, asked: Asked) -> Answered:
        """RemoveLayerVersionPermission."""
        version = await self._present(asked)
        await self._policies.remove(
            key_of(version.name, version.version),
            asked["StatementId"],
            revision=asked.get("RevisionId"),
        )
        return Answered()

    async def policy(self, asked: Asked) -> Answered:
        """GetLayerVersionPolicy."""
        version = await self._present(asked)
        policy = await self._policies.find(key_of(version.name, version.version))
        if policy is None:
            raise ResourceNotFound
        return Answered({"Policy": policy.text(), "RevisionId": policy.revision})

    def _named(self, asked: Asked) -> tuple[str, int]:
        number = asked["VersionNumber"]
        if number < 1:
            raise InvalidParameter("Layer Version Cannot be less than 1")
        return self._layers.name_of(asked["LayerName"]), number

    async def _present(self, asked: Asked) -> LayerVersion:
        name, number = self._named(asked)
        found = await self._layers.find(name, number)
        if found is None:
            arn = f"{self._layers.arn(name)}:{number}"
            raise ResourceNotFound(f"Layer version {arn} does not exist.")
        return found

    def _shape(self, version: LayerVersion, asked: Asked) -> dict[str, Any]:
        return {
            "Content": {
                "Location": self._code.location(version.digest, asked),
                "CodeSha256": checksum(version.digest),
                "CodeSize": version.size,
            },
            "LayerArn": version.arn,
            "Description": version.description,
            **_item(version),
        }


def _item(version: LayerVersion) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "LayerVersionArn": version.version_arn,
        "Version": version.version,
        "CreatedDate": version.created,
    }
    optional: Mapping[str, str | Sequence[str]] = {
        "Description": version.description,
        "CompatibleRuntimes": list(version.runtimes),
        "CompatibleArchitectures": list(version.architectures),
        "LicenseInfo": version.license,
    }
    return shape | {name: value for name, value in optional.items() if value}


def _matches(version: LayerVersion, asked: Asked) -> bool:
    runtime, architecture = asked.get("CompatibleRuntime"), asked.get("CompatibleArchitecture")
    return (not runtime or runtime in version.runtimes) and (
        not architecture or architecture in version.architectures
    )


def _principal(text: str) -> str | dict[str, str]:
    """Return an account, its root or ``*`` as a policy spells it."""
    if text == "*":
        return text
    return {"AWS": f"arn:aws:iam::{text}:root" if _ACCOUNT.fullmatch(text) else text}
