"""An image that has been found: its configuration and its layers, and how their bytes are read."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from faas.oci.documents import Config, ImageError
from faas.oci.streams import Plain, Verified
from faas.oci.tar import Content, Read, entries
from faas.oci.tree import Merged

Progress = Callable[[str], None]
"""Takes one line on what is being done; may be called from a thread."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer as it is stored.

    Attributes:
        digest: Of the stored form; empty when its source does not give one.
        diff_id: Digest of the plain tar.
        size: Bytes of the stored form.
        media_type: What its source calls it.
        open: Opens the stored form.
    """

    digest: str
    diff_id: str
    size: int
    media_type: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Image:
    """One image for this machine.

    Attributes:
        name: As the user wrote it.
        manifest: Digest of its manifest; empty when its source has none.
        config: Its configuration.
        body: The configuration's bytes.
        digest: SHA-256 of them in hex, which docker calls the image's ID: it names the
            configuration and, through the layers' digests in there, every file.
        layers: Lowest first.
    """

    name: str
    manifest: str
    config: Config
    body: bytes
    digest: str
    layers: tuple[Blob, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers as they are stored."""
        return sum(layer.size for layer in self.layers)


class Source(Protocol):
    """Where an image is kept."""

    async def image(self) -> Image:
        """Return the image; its layers can be opened after `fetch`.

        Raises:
            ImageError: There is none, or it is damaged.
        """
        ...

    async def fetch(self, image: Image, progress: Progress) -> None:
        """Have the layers at hand.

        Raises:
            ImageError: A layer cannot be had, or is not what its digest says.
        """
        ...


def blobs(
    config: Config, name: str, stored: Sequence[tuple[str, int, str, Callable[[], BinaryIO]]]
) -> tuple[Blob, ...]:
    """Return the layers of an image from ``(digest, size, media type, open)`` of each.

    Raises:
        ImageError: There are not as many as its configuration names.
    """
    if len(stored) != len(config.diff_ids):
        raise ImageError(
            f"image {name}: {len(stored)} layers, expected {len(config.diff_ids)} as in its "
            "configuration"
        )
    return tuple(
        Blob(digest, diff_id, size, media_type, opened)
        for diff_id, (digest, size, media_type, opened) in zip(config.diff_ids, stored, strict=True)
    )


@contextmanager
def plain(blob: Blob) -> Iterator[Read]:
    """Read a layer as a plain tar, both of its digests verified by who reads to the end.

    Raises:
        ImageError: The layer cannot be opened.
    """
    name = f"layer {blob.digest or blob.diff_id}"
    try:
        stored = blob.open()
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror}, expected its file") from error
    with stored:
        read: Read = stored.read
        if blob.digest:
            read = Verified(read, digest=blob.digest, size=blob.size, name=name).read
        yield Verified(Plain(read, name).read, digest=blob.diff_id, name=f"{name}, plain").read


def merged(image: Image) -> Merged:
    """Return the files of an image, every layer verified. Blocks: call it from a thread.

    Raises:
        ImageError: A layer is damaged, hostile or over a limit.
    """
    tree = Merged(image.name)
    for layer in image.layers:
        tree.begin()
        with plain(layer) as read:
            for entry, _ in entries(read):
                tree.add(entry)
    return tree


def contents(
    image: Image, wanted: Collection[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], Content]]:
    """Yield the contents of those files of an image, see `tree.File.source`, in stored order.

    Raises:
        ImageError: A layer is damaged.
    """
    for index, layer in enumerate(image.layers):
        starts = {start for where, start in wanted if where == index}
        if not starts:
            continue
        with plain(layer) as read:
            for entry, content in entries(read):
                if entry.start in starts and entry.size:
                    yield (index, entry.start), content


def written(content: Content, path: Path) -> None:
    """Write a file that is not there yet."""
    with path.open("xb") as sink:
        for piece in content.pieces():
            sink.write(piece)
