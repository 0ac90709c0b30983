"""Images in files: OCI layouts (folders or archives) and what ``docker save`` writes."""

import asyncio
import os
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from pydantic import TypeAdapter, ValidationError

from faas.oci.documents import (
    DOCKER_INDEX,
    MAX_DOCUMENT,
    OCI_INDEX,
    Descriptor,
    ImageError,
    Index,
    Manifest,
    Saved,
    checked,
    choice,
    config_of,
    digest_of,
    read,
    tagged,
)
from faas.oci.image import Image, Progress, blobs
from faas.oci.streams import MAX_IMAGE, Plain
from faas.oci.tar import BLOCK, Kind, entries

_LAYOUT, _INDEX, _SAVED = "oci-layout", "index.json", "manifest.json"
_SAVED_IMAGES = TypeAdapter(list[Saved])
_MAX_NESTING = 3
_MAX_LINKS = 8
_PIECE = 1 << 20


class Files(Protocol):
    """The files of a layout, by path."""

    def has(self, name: str) -> bool:
        """Return whether there is a file of that path."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; 0 when there is none."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file; an `ImageError` when there is none."""
        ...


class InFolder:
    """Files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, name: str) -> bool:
        """See `Files.has`."""
        return (self._folder / name).is_file()

    def size(self, name: str) -> int:
        """See `Files.size`."""
        return (self._folder / name).stat().st_size if self.has(name) else 0

    def open(self, name: str) -> BinaryIO:
        """See `Files.open`."""
        path = self._folder / name
        try:
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ImageError(f"file {path}: {error.strerror}, expected one of a layout") from None
        file = os.fdopen(opened, "rb")
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            file.close()
            raise ImageError(f"file {path}: not a plain file, expected one of a layout")
        return file


class InArchive:
    """Files of a plain tar."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        with path.open("rb") as file:
            for entry, _ in entries(file.read):
                name = "/".join(entry.path)
                if entry.kind is Kind.FILE:
                    self._files[name] = (entry.start, entry.size)
                elif entry.kind is Kind.LINK:  # older docker shares equal layers in this way
                    self._links[name] = os.path.normpath(f"{name}/../{entry.target}")
                elif entry.kind is Kind.SAME:
                    self._links[name] = os.path.normpath(entry.target)

    def has(self, name: str) -> bool:
        """See `Files.has`."""
        return self._found(name) is not None

    def size(self, name: str) -> int:
        """See `Files.size`."""
        return (self._found(name) or (0, 0))[1]

    def open(self, name: str) -> BinaryIO:
        """See `Files.open`."""
        found = self._found(name)
        if found is None:
            raise ImageError(f"archive {self._path}: no {name[:200]!r}, expected it there")
        return cast("BinaryIO", _Slice(self._path, *found))

    def _found(self, name: str) -> tuple[int, int] | None:
        for _ in range(_MAX_LINKS):
            if name not in self._links:
                break
            name = self._links[name]
        return self._files.get(name)


class _Slice:
    """A part of a file, as far as layers are read: forward, once."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._left = size

    def __enter__(self) -> "_Slice":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, most: int) -> bytes:
        piece = self._file.read(min(most, self._left))
        self._left -= len(piece)
        return piece


class Layout:
    """An image in an OCI layout.

    Source: https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
    """

    def __init__(self, files: Files, name: str, tag: str) -> None:
        self._files, self._name, self._tag = files, name, tag

    async def image(self) -> Image:
        """See `Source.image`."""
        return await asyncio.to_thread(self._image)

    async def fetch(self, image: Image, progress: Progress) -> None:
        """See `Source.fetch`; everything is here."""

    def _image(self) -> Image:
        index = read(Index, _small(self._files, _INDEX), f"index of {self._name}")
        found = choice(index, self._name, self._tag)
        for _ in range(_MAX_NESTING):
            if found.media_type not in (OCI_INDEX, DOCKER_INDEX):
                break
            body = self._blob(found)
            found = choice(read(Index, body, f"index of {self._name}"), self._name)
        manifest = read(Manifest, self._blob(found), f"manifest of {self._name}")
        body = self._blob(manifest.config)
        config = config_of(body, self._name)
        stored = [
            (each.digest, each.size, each.media_type, self._opener(each))
            for each in manifest.layers
        ]
        return Image(
            self._name,
            found.digest,
            config,
            body,
            manifest.config.digest.removeprefix("sha256:"),
            blobs(config, self._name, stored),
        )

    def _blob(self, descriptor: Descriptor) -> bytes:
        body = _small(self._files, _path(descriptor))
        return checked(body, descriptor.digest, f"blob of {self._name}")

    def _opener(self, descriptor: Descriptor) -> Callable[[], BinaryIO]:
        return partial(self._files.open, _path(descriptor))


class SavedImage:
    """An image as older versions of ``docker save`` write it.

    Source: https://github.com/moby/docker-image-spec/blob/main/spec.md
    """

    def __init__(self, files: Files, name: str, tag: str) -> None:
        self._files, self._name, self._tag = files, name, tag

    async def image(self) -> Image:
        """See `Source.image`."""
        return await asyncio.to_thread(self._image)

    async def fetch(self, image: Image, progress: Progress) -> None:
        """See `Source.fetch`; everything is here."""

    def _image(self) -> Image:
        try:
            saved = _SAVED_IMAGES.validate_json(_small(self._files, _SAVED))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ImageError(
                f"image {self._name}: manifest.json: {first['msg']}, expected docker's"
            ) from None
        found = [each for each in saved if not self._tag or tagged(each.tags, self._tag)]
        if len(found) != 1:
            known = ", ".join(sorted(tag for each in saved for tag in each.tags))
            raise ImageError(
                f"image {self._name}: found {len(found)} images, expected one; "
                f"name one as PATH:TAG, of {known}"
            )
        body = _small(self._files, found[0].config)
        config = config_of(body, self._name)
        stored = [
            ("", self._files.size(layer), "", partial(self._files.open, layer))
            for layer in found[0].layers
        ]
        digest = digest_of(body).removeprefix("sha256:")
        return Image(self._name, "", config, body, digest, blobs(config, self._name, stored))


def found(path: Path, tag: str, scratch: Path, name: str) -> Layout | SavedImage:
    """Return the image at ``path``. Blocks: call it from a thread.

    Args:
        path: A folder or an archive, plain or compressed.
        tag: Which of its images; empty: the only one.
        scratch: Where a compressed archive is expanded.
        name: What messages call it.

    Raises:
        ImageError: There is no image.
    """
    files: Files
    try:
        files = InFolder(path) if path.is_dir() else InArchive(_expanded(path, scratch))
    except OSError as error:
        raise ImageError(f"image {name}: {error.strerror}, expected a file") from error
    if files.has(_INDEX) and files.has(_LAYOUT):
        return Layout(files, name, tag)
    if files.has(_SAVED):
        return SavedImage(files, name, tag)
    raise ImageError(
        f"image {name}: neither {_INDEX} nor {_SAVED} in it, expected an OCI layout or what "
        "docker save writes"
    )


def _expanded(path: Path, scratch: Path) -> Path:
    """Return ``path``, or a plain copy of it when it is compressed."""
    with path.open("rb") as file:
        first = file.read(BLOCK)
        if first[257:262] == b"ustar" or len(first) < BLOCK:
            return path
        file.seek(0)
        plain = Plain(file.read, f"archive {path}")
        with tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar", delete=False) as sink:
            size = 0
            while piece := plain.read(_PIECE):
                size += len(piece)
                if size > MAX_IMAGE:
                    raise ImageError(f"archive {path}: over {MAX_IMAGE} bytes, expected fewer")
                sink.write(piece)
            return Path(sink.name)


def _small(files: Files, name: str) -> bytes:
    with files.open(name) as file:
        return file.read(MAX_DOCUMENT + 1)


def _path(descriptor: Descriptor) -> str:
    return f"blobs/sha256/{descriptor.digest.removeprefix('sha256:')}"
