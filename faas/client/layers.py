"""Layers over the Lambda API: published once for each content, listed, removed."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faas.client.api import LAYERS, Api, Json, quoted
from faas.code.package import checksum


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers that an `Api` knows."""

    api: Api

    def list(self) -> Iterator[Json]:
        """Yield every layer with its newest version, by name.

        Raises:
            Refused: The API would not say.
            Unreachable: Nothing answers.
        """
        return self.api.pages(LAYERS, "Layers")

    def versions(self, name: str) -> Iterator[Json]:
        """Yield the versions of a layer, newest first; none when there is no such layer.

        Raises:
            Refused: The API would not say.
            Unreachable: Nothing answers.
        """
        return self.api.pages(f"{LAYERS}/{quoted(name)}/versions", "LayerVersions")

    def publish(
        self, name: str, body: bytes, *, description: str = "", runtimes: tuple[str, ...] = ()
    ) -> Json:
        """Publish a new version and return it.

        Raises:
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        request: Json = {"Content": {"ZipFile": base64.b64encode(body).decode()}}
        if description:
            request["Description"] = description[:256]
        if runtimes:
            request["CompatibleRuntimes"] = list(runtimes)
        path = f"{LAYERS}/{quoted(name)}/versions"
        published: Json = self.api.send("POST", path, request).json()
        return published

    def published(
        self, name: str, body: bytes, *, description: str = "", runtimes: tuple[str, ...] = ()
    ) -> tuple[str, bool]:
        """Have a version with exactly these bytes; return its ARN and whether it is new.

        Raises:
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        wanted = checksum(hashlib.sha256(body).hexdigest())
        for version in self.versions(name):
            path = f"{LAYERS}/{quoted(name)}/versions/{version['Version']}"
            found = self.api.found(path)
            if found is not None and found["Content"]["CodeSha256"] == wanted:
                return str(found["LayerVersionArn"]), False
        made = self.publish(name, body, description=description, runtimes=runtimes)
        return str(made["LayerVersionArn"]), True

    def named(
        self,
        name: str,
        build: Callable[[], bytes],
        *,
        description: str = "",
        runtimes: tuple[str, ...] = (),
    ) -> tuple[str, bool]:
        """Have a version of the layer ``name``, whose name says what is in it.

        Args:
            name: The layer.
            build: Makes its zip; called only when there is no version yet.
            description: Of a new version.
            runtimes: That a new version is for.

        Raises:
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        newest = next(self.versions(name), None)
        if newest is not None:
            return str(newest["LayerVersionArn"]), False
        made = self.publish(name, build(), description=description, runtimes=runtimes)
        return str(made["LayerVersionArn"]), True

    def delete(self, name: str, version: int) -> None:
        """Remove a version; functions that use it keep it.

        Raises:
            Refused: The API would not.
            Unreachable: Nothing answers.
        """
        self.api.send("DELETE", f"{LAYERS}/{quoted(name)}/versions/{version}")
