"""Packages from an S3-compatible store, by botocore."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session  # type: ignore[import-untyped]
from botocore import UNSIGNED
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from faas.lambda_errors import InvalidParameter

_CHUNK = 1 << 20
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 30.0


@dataclass(frozen=True, slots=True)
class Objects:
    """Reads objects from one endpoint.

    Attributes:
        endpoint: ``http://HOST:PORT`` of what speaks S3's API.
        region: For signatures.
        access_key: Empty: requests are not signed.
        secret_key: Goes with ``access_key``.
    """

    endpoint: str
    region: str
    access_key: str = ""
    secret_key: str = ""

    @classmethod
    def of(cls, endpoint: str, region: str, environ: Mapping[str, str]) -> "Objects":
        """Return a reader with the keys that ``environ`` has under AWS's usual names."""
        return cls(
            endpoint,
            region,
            environ.get("AWS_ACCESS_KEY_ID", ""),
            environ.get("AWS_SECRET_ACCESS_KEY", ""),
        )

    async def fetched(self, bucket: str, key: str, version: str | None, *, limit: int) -> bytes:
        """Return an object's bytes.

        Raises:
            InvalidParameter: There is no such object, it is over ``limit`` bytes, or the store
                does not answer.
        """
        return await asyncio.to_thread(self._fetch, bucket, key, version, limit)

    def _fetch(self, bucket: str, key: str, version: str | None, limit: int) -> bytes:
        which = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
        client = self._client()
        try:
            answer = client.get_object(**which)
            if answer["ContentLength"] > limit:
                raise _too_large(answer["ContentLength"], limit)
            body = bytearray()
            for piece in answer["Body"].iter_chunks(_CHUNK):
                body += piece
                if len(body) > limit:
                    raise _too_large(len(body), limit)
            return bytes(body)
        except ClientError as error:
            said = error.response.get("Error", {})
            raise InvalidParameter(
                f"Error occurred while GetObject. S3 Error Code: {said.get('Code')}. "
                f"S3 Error Message: {said.get('Message')}"
            ) from error
        except BotoCoreError as error:
            raise InvalidParameter(
                f"Error occurred while GetObject: {error}, expected the endpoint to answer"
            ) from error
        finally:
            client.close()

    def _client(self) -> Any:
        keys: dict[str, str] = {}
        if self.access_key:
            keys = {
                "aws_access_key_id": self.access_key,
                "aws_secret_access_key": self.secret_key,
            }
        return botocore.session.Session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint,
            config=Config(
                signature_version="s3v4" if self.access_key else UNSIGNED,
                s3={"addressing_style": "path"},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"total_max_attempts": 2},
            ),
            **keys,
        )


def _too_large(found: int, limit: int) -> InvalidParameter:
    return InvalidParameter(f"Zipped size must be smaller than {limit} bytes: found {found}")
