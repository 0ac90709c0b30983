"""Where code comes from: a zip in the request, an object store, a container image."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faas.api.asked import Asked
from faas.code.objects import Objects
from faas.code.package import MAX_UNZIPPED, MAX_ZIPPED, Package, size_of, unpacked
from faas.lambda_errors import InvalidParameter
from faas.model.function import LayerUse
from faas.oci import images
from faas.oci.documents import ImageError
from faas.oci.images import ImagePackage

logger = logging.getLogger(__name__)

LOCATION = "/wherry/code/{digest}.zip"
"""Path of the API under which a package is served as it was uploaded."""


class Code:
    """Fetches, verifies and unpacks code.

    Args:
        code_dir: Where packages are unpacked.
        objects: The object store that ``S3Bucket`` is looked up in; None: there is none.
        files: Whether images may come from files of this machine: only for callers who might
            read these files anyway.
    """

    def __init__(
        self, code_dir: Path, objects: Objects | None = None, *, files: bool = False
    ) -> None:
        self._code_dir = code_dir
        self._objects = objects
        self._files = files

    async def package(self, content: Mapping[str, Any]) -> Package:
        """Verify and unpack what ``ZipFile`` holds or ``S3Bucket`` and ``S3Key`` name.

        Raises:
            InvalidParameter: There is none, or it is no package.
        """
        body = content.get("ZipFile")
        bucket = content.get("S3Bucket")
        if body and bucket:
            raise InvalidParameter(
                "Please do not provide other FunctionCode parameters when providing a ZipFile."
            )
        if content.get("S3ObjectStorageMode", "COPY") != "COPY":
            raise InvalidParameter(
                "S3ObjectStorageMode is not supported by Wherry: packages are copied; expected COPY"
            )
        if bucket:
            body = await self._fetched(bucket, content)
        if not body:
            raise InvalidParameter("Please provide a source for function code.")
        return await asyncio.to_thread(unpacked, body, self._code_dir)

    async def image(self, uri: str) -> ImagePackage:
        """Fetch and unpack a container image.

        Raises:
            InvalidParameter: There is no such image, or it cannot be used here.
        """
        try:
            return await images.taken(uri, self._code_dir, _progress, files=self._files)
        except ImageError as error:
            raise InvalidParameter(
                f"Source image {uri[:200]} cannot be used. Provide a valid source image. ({error})"
            ) from error

    async def size(self, digest: str) -> int:
        """Return the bytes in the files of a package."""
        return await asyncio.to_thread(size_of, self._code_dir, digest)

    async def check_size(self, digest: str, layers: Sequence[LayerUse]) -> None:
        """Refuse code that is too much together with its layers.

        Raises:
            InvalidParameter: Their files hold over 250 MB.
        """
        size = sum([await self.size(each) for each in (digest, *(use.digest for use in layers))])
        if size > MAX_UNZIPPED:
            raise InvalidParameter(
                "Function code combined with layers exceeds the maximum allowed size of "
                f"{MAX_UNZIPPED} bytes. The actual size is {size} bytes."
            )

    def location(self, digest: str, asked: Asked) -> str:
        """Return a URL from which the package can be fetched."""
        return asked.base_url + LOCATION.format(digest=digest)

    async def _fetched(self, bucket: str, content: Mapping[str, Any]) -> bytes:
        if self._objects is None:
            raise InvalidParameter(
                "S3Bucket: no object store is set up here, expected ZipFile; an S3-compatible "
                "endpoint can be named in the settings"
            )
        key = content.get("S3Key")
        if not key:
            raise InvalidParameter("Please provide a source for function code: S3Key is missing")
        version = content.get("S3ObjectVersion")
        return await self._objects.fetched(bucket, key, version, limit=MAX_ZIPPED)


def _progress(text: str) -> None:
    logger.info("image", extra={"progress": text})
