"""An image in a registry: fetched over HTTP, every byte checked against its digest.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from yarl import URL

from faas.oci.challenge import Challenge, Login, challenge, login
from faas.oci.documents import (
    DOCKER_INDEX,
    MANIFESTS,
    MAX_DOCUMENT,
    OCI_INDEX,
    Descriptor,
    ImageError,
    Index,
    Kind,
    Manifest,
    checked,
    choice,
    config_of,
    digest_of,
    read,
)
from faas.oci.image import Image, Progress, blobs
from faas.oci.reference import InRegistry
from faas.oci.streams import Verified

_TRIES = 3
_MAX_REDIRECTS = 5
_PIECE = 1 << 20
_PATIENCE = ClientTimeout(total=None, sock_connect=20, sock_read=60)
_MOVED = (301, 302, 303, 307, 308)


class Registry:
    """One image of a registry."""

    def __init__(self, place: InRegistry, folder: Path, session: ClientSession) -> None:
        self._place = place
        self._folder = folder
        self._session = session
        self._authorization = ""

    @classmethod
    @asynccontextmanager
    async def session(cls, place: InRegistry, folder: Path) -> AsyncIterator["Registry"]:
        """Enter with connections to the registry.

        Args:
            place: The image.
            folder: Existing folder that layers are put into.
        """
        async with ClientSession(timeout=_PATIENCE, auto_decompress=False) as session:
            yield cls(place, folder, session)

    async def image(self) -> Image:
        """See `Source.image`."""
        name = str(self._place)
        digest, body = await self._manifest(self._place.digest or self._place.tag)
        if self._place.digest:
            checked(body, self._place.digest, f"manifest of {name}")
        if _is_index(body, name):
            found = choice(read(Index, body, f"index of {name}"), name)
            digest, body = await self._manifest(found.digest)
            checked(body, found.digest, f"manifest of {name}")
        manifest = read(Manifest, body, f"manifest of {name}")
        own = await self._small(manifest.config)
        config = config_of(own, name)
        stored = [
            (each.digest, each.size, each.media_type, partial(_open, self._path(each.digest)))
            for each in manifest.layers
        ]
        key = manifest.config.digest.removeprefix("sha256:")
        return Image(name, digest, config, own, key, blobs(config, name, stored))

    async def fetch(self, image: Image, progress: Progress) -> None:
        """See `Source.fetch`."""
        for number, layer in enumerate(image.layers, 1):
            progress(f"fetching layer {number} of {len(image.layers)}: {layer.size / 1e6:.1f} MB")
            await self._download(layer.digest, layer.size)

    async def _manifest(self, reference: str) -> tuple[str, bytes]:
        accept = {"Accept": ", ".join(MANIFESTS)}
        async with self._get(f"{self._place.url}/manifests/{reference}", accept) as response:
            body = await _bounded(response, MAX_DOCUMENT, f"manifest of {self._place}")
        return digest_of(body), body

    async def _small(self, descriptor: Descriptor) -> bytes:
        name = f"configuration of {self._place}"
        async with self._get(f"{self._place.url}/blobs/{descriptor.digest}", {}) as response:
            body = await _bounded(response, MAX_DOCUMENT, name)
        return checked(body, descriptor.digest, name)

    async def _download(self, digest: str, size: int) -> None:
        path = self._path(digest)
        for tried in range(1, _TRIES + 1):
            if await asyncio.to_thread(path.exists):
                return
            try:
                await self._downloaded(digest, size, path)
            except (ClientError, TimeoutError, OSError) as error:
                if tried == _TRIES:
                    raise ImageError(
                        f"layer {digest} of {self._place}: {str(error) or type(error).__name__}, "
                        f"expected it within {_TRIES} tries"
                    ) from error

    async def _downloaded(self, digest: str, size: int, path: Path) -> None:
        partial_path = path.with_suffix(".partial")
        piece = b""
        verified = Verified(
            lambda _: piece, digest=digest, size=size, name=f"layer {digest} of {self._place}"
        )
        async with self._get(f"{self._place.url}/blobs/{digest}", {}) as response:
            with partial_path.open("wb") as sink:
                async for piece in response.content.iter_chunked(_PIECE):
                    await asyncio.to_thread(sink.write, verified.read(len(piece)))
        piece = b""
        verified.read(_PIECE)
        partial_path.rename(path)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[ClientResponse]:
        """Enter with the answer to a GET, logged in when the registry asks for it."""
        try:
            response = await self._followed(url, headers)
            if response.status == HTTPStatus.UNAUTHORIZED:
                asked = challenge(response.headers.get("WWW-Authenticate", ""))
                response.close()
                self._authorization = await self._authorized(asked)
                response = await self._followed(url, headers)
        except (ClientError, TimeoutError) as error:
            raise ImageError(
                f"image {self._place}: registry {self._place.host}: {str(error) or 'no answer'}, "
                "expected it to answer"
            ) from error
        try:
            if response.status != HTTPStatus.OK:
                raise _refused(self._place, url, response)
            yield response
        finally:
            response.close()

    async def _followed(self, url: str, headers: Mapping[str, str]) -> ClientResponse:
        """Return the answer behind redirects; who is asked elsewhere is told no password."""
        own, at = URL(url), URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            if at.scheme != "https" and not (self._place.loopback and at.host == own.host):
                raise ImageError(
                    f"registry {self._place.host}: sends to {at.scheme}://{at.host}, expected https"
                )
            sent = dict(headers)
            if self._authorization and at.origin() == own.origin():
                sent["Authorization"] = self._authorization
            response = await self._session.get(at, headers=sent, allow_redirects=False)
            if response.status not in _MOVED:
                return response
            response.close()
            at = at.join(URL(response.headers.get("Location", ""), encoded=True))
        raise ImageError(
            f"registry {self._place.host}: over {_MAX_REDIRECTS} redirects, expected fewer"
        )

    async def _authorized(self, asked: Challenge | None) -> str:
        """Return the ``Authorization`` header that answers a challenge.

        Raises:
            ImageError: Nothing is known that would.
        """
        known = await asyncio.to_thread(_login, self._place.host)
        if asked is None or (asked.scheme == "basic" and known is None) or self._authorization:
            raise ImageError(
                f"image {self._place}: the registry asks for a login, expected one in docker's "
                "config.json; run docker login, or set DOCKER_CONFIG to the folder of the file"
            )
        if asked.scheme == "basic" and known is not None:
            return known.header()
        return await self._token(asked, known)

    async def _token(self, asked: Challenge, known: Login | None) -> str:
        realm = URL(asked.parameters.get("realm", ""))
        secure = realm.scheme == "https" or (self._place.loopback and realm.scheme == "http")
        if not secure or not realm.host:
            raise ImageError(
                f"registry {self._place.host}: tokens are at {realm.scheme}://{realm.host}, "
                "expected https"
            )
        query = {
            key: asked.parameters[key] for key in ("service", "scope") if key in asked.parameters
        }
        query.setdefault("scope", f"repository:{self._place.repository}:pull")
        headers = {"Authorization": known.header()} if known else {}
        async with self._session.get(
            realm.update_query(query), headers=headers, allow_redirects=False
        ) as response:
            if response.status != HTTPStatus.OK:
                raise _refused(self._place, str(realm), response)
            body = await _bounded(response, MAX_DOCUMENT, f"token of {realm.host}")
        return f"Bearer {_token_in(body, str(realm.host))}"


def _token_in(body: bytes, host: str) -> str:
    try:
        said = json.loads(body)
        token = said.get("token") or said.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isprintable():
        raise ImageError(f"registry {host}: answered with no token, expected one")
    return token


def _is_index(body: bytes, name: str) -> bool:
    kind = read(Kind, body, f"manifest of {name}")
    return kind.media_type in (OCI_INDEX, DOCKER_INDEX) or kind.manifests is not None


async def _bounded(response: ClientResponse, most: int, name: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        body += piece
        if len(body) > most:
            raise ImageError(f"{name}: over {most} bytes, expected fewer")
    return bytes(body)


def _refused(place: InRegistry, url: str, response: ClientResponse) -> ImageError:
    reasons: Mapping[int, str] = {
        HTTPStatus.NOT_FOUND: "there is no such image",
        HTTPStatus.UNAUTHORIZED: "the login was refused",
        HTTPStatus.FORBIDDEN: "the login may not read it",
        HTTPStatus.TOO_MANY_REQUESTS: "the registry has had enough requests for now",
    }
    what = reasons.get(response.status, f"the registry answered {response.status}")
    return ImageError(f"image {place}: {what} ({URL(url).path}), expected to read it")


def _login(host: str) -> Login | None:
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        return login((folder / "config.json").read_bytes(), host)
    except OSError:
        return None


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
