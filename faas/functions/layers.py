"""Layers: numbered, unchanging packages that functions share.

Records ``layer/NAME/NUMBER``; the packages lie where those of functions do, by digest.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faas.code.package import MAX_UNZIPPED, Package, size_of
from faas.lambda_errors import AccessDenied, InvalidParameter, ResourceNotFound
from faas.model.function import LayerUse
from faas.model.layer import PREFIX, LayerVersion
from faas.model.moment import milliseconds
from faas.model.policy import LAYER_PREFIX, Policy
from faas.place import Place
from faas.records import Records
from wherry.clock import Clock
from wherry.store import Store

MAX_LAYERS = 5
"""Most layers of one function. Source: Lambda quotas, "Function layers"."""
_COUNT = "layer-count/"
_ARN = re.compile(
    r"(?P<layer>arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"layer:(?P<name>[A-Za-z0-9_-]{1,140}))(?::(?P<version>\d{1,10}))?"
)


def key_of(name: str, version: int) -> str:
    """Return under what a layer version is kept."""
    return f"{name}/{version:010d}"


class Layers:
    """The layers in a Store."""

    def __init__(self, store: Store, code_dir: Path, place: Place, clock: Clock) -> None:
        self._store = store
        self._code_dir = code_dir
        self._place = place
        self._clock = clock
        self._records = Records(store, PREFIX, LayerVersion)
        self._policies = Records(store, LAYER_PREFIX, Policy)

    def name_of(self, text: str) -> str:
        """Return the name of the layer that ``text``, a name or an ARN without version, means.

        Raises:
            AccessDenied: The ARN is of another account or region.
        """
        match = _ARN.fullmatch(text)
        if match is None:
            return text
        self._refuse_foreign(match, text)
        return match["name"]

    def arn(self, name: str) -> str:
        """Return the ARN of a layer, without version."""
        return self._place.layer_arn(name)

    async def publish(
        self, name: str, package: Package, settings: Mapping[str, Any]
    ) -> LayerVersion:
        """Add a version to a layer, which begins with its first one.

        Args:
            name: 1 to 140 of ``A-Za-z0-9-_``.
            package: Its files.
            settings: Further fields of `LayerVersion`: ``description``, ``runtimes``,
                ``architectures``, ``license``.
        """
        version = LayerVersion(
            name=name,
            arn=self.arn(name),
            version=await self._store.add(_COUNT + name, 1),
            digest=package.digest,
            size=package.size,
            created=milliseconds(self._clock.unix_ns()),
            **settings,
        )
        await self._records.put(key_of(name, version.version), version, expect=0)
        return version

    async def find(self, name: str, version: int) -> LayerVersion | None:
        """Return a version, or None when there is none, or none any more."""
        return await self._records.get(key_of(name, version))

    async def get(self, arn: str) -> LayerVersion:
        """Return the version that an ARN names.

        Raises:
            ResourceNotFound: There is none, or none any more.
            AccessDenied: The ARN is of another account or region.
        """
        match = _ARN.fullmatch(arn)
        if match is None or match["version"] is None:
            raise ResourceNotFound
        self._refuse_foreign(match, arn)
        found = await self.find(match["name"], int(match["version"]))
        if found is None:
            raise ResourceNotFound
        return found

    async def versions(self, name: str) -> Sequence[LayerVersion]:
        """Return the versions of a layer, newest first."""
        return list(reversed((await self._records.under(f"{name}/")).values()))

    async def list(self) -> Mapping[str, Sequence[LayerVersion]]:
        """Return the versions of every layer, newest first, by name."""
        layers: dict[str, list[LayerVersion]] = {}
        for version in (await self._records.under()).values():
            layers.setdefault(version.name, []).insert(0, version)
        return layers

    async def delete(self, name: str, version: int) -> None:
        """Remove a version, if it is there; functions that use it go on.

        Its number is never given again.
        """
        await self._records.delete(key_of(name, version))
        await self._policies.delete(key_of(name, version))

    async def use(self, arns: Sequence[str], *, unzipped: int = 0) -> tuple[LayerUse, ...]:
        """Return the layer versions that a function wants, in its order.

        Args:
            arns: With their versions.
            unzipped: Bytes in the files of the function's own package.

        Raises:
            InvalidParameter: One does not exist any more or never did; there are too many; two
                are of one layer; their files are together over 250 MB.
            AccessDenied: One is of another account.
        """
        if len(arns) > MAX_LAYERS:
            raise InvalidParameter(f"Cannot reference more than {MAX_LAYERS} layers.")
        used = [await self._wanted(arn) for arn in arns]
        seen: dict[str, str] = {}
        for version in used:
            if version.arn in seen:
                raise InvalidParameter(
                    "Two different versions of the same layer are not allowed to be referenced in "
                    f"the same function. {seen[version.arn]} and {version.version_arn} are "
                    "versions of the same layer."
                )
            seen[version.arn] = version.version_arn
        sizes = await asyncio.to_thread(
            lambda: [size_of(self._code_dir, one.digest) for one in used]
        )
        if used and sum(sizes) + unzipped > MAX_UNZIPPED:
            raise InvalidParameter(
                "Function code combined with layers exceeds the maximum allowed size of "
                f"{MAX_UNZIPPED} bytes. The actual size is {sum(sizes) + unzipped} bytes."
            )
        return tuple(LayerUse(one.version_arn, one.digest, one.size) for one in used)

    async def _wanted(self, arn: str) -> LayerVersion:
        match = _ARN.fullmatch(arn)
        if match is None or match["version"] is None:
            raise InvalidParameter(f"Layer version {arn[:200]} does not exist.")
        self._refuse_foreign(match, arn)
        found = await self.find(match["name"], int(match["version"]))
        if found is None:
            raise InvalidParameter(f"Layer version {arn} does not exist.")
        return found

    def _refuse_foreign(self, match: re.Match[str], arn: str) -> None:
        if (match["region"], match["account"]) != (self._place.region, self._place.account):
            raise AccessDenied(
                f"Not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no "
                "resource-based policy allows the lambda:GetLayerVersion action"
            )
