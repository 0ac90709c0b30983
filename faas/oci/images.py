"""Container images as code of functions: taken once, kept by digest beside the zip packages."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from faas.code.package import present, put_in_place, root_of
from faas.model.function import Function
from faas.oci.archive import found
from faas.oci.documents import Config, ImageError, config_of, is_digest
from faas.oci.image import Image, Progress, Source, merged
from faas.oci.lay import laid_out
from faas.oci.reference import InFile, InRegistry, in_file, in_registry
from faas.oci.registry import Registry
from faas.vm import Container

_CONFIG = "image.json"


@dataclass(frozen=True, slots=True)
class ImagePackage:
    """An image on disk, ready to run.

    Attributes:
        digest: SHA-256 of its configuration in hex (docker's image ID): names its directory.
        size: Bytes of its layers as they are stored.
        root: Directory with the whole file system; never written again.
        config: What the image says of itself.
        manifest: Digest of the manifest, ``sha256:HEX``; empty when its source has none.
    """

    digest: str
    size: int
    root: Path
    config: Config
    manifest: str


async def taken(
    text: str, code_dir: Path, progress: Progress, *, files: bool = True
) -> ImagePackage:
    """Have the image ``text`` under ``code_dir``; one that is there already is not fetched again.

    Args:
        text: A path, ``oci:PATH``, ``docker-archive:PATH`` or ``[HOST/]NAME[:TAG][@DIGEST]``.
        code_dir: Where code packages are.
        progress: Told each step; may be called from a thread.
        files: Whether a path is taken, or registries only.

    Raises:
        ImageError: There is no such image, or it is damaged, hostile, over a limit or for another
            machine.
    """
    await asyncio.to_thread(code_dir.mkdir, parents=True, exist_ok=True)
    async with opened(text, code_dir, files=files) as (source, image):
        made = ImagePackage(
            image.digest, image.size, root_of(code_dir, image.digest), image.config, image.manifest
        )
        if not await asyncio.to_thread(present, code_dir, image.digest):
            await source.fetch(image, progress)
            await asyncio.to_thread(_laid_out, image, code_dir, progress)
        return made


@asynccontextmanager
async def opened(
    text: str, scratch: Path, *, files: bool = True
) -> AsyncIterator[tuple[Source, Image]]:
    """Enter with an image that was found, and where it is kept.

    Args:
        text: See `taken`.
        scratch: Existing folder, in which layers are put until the context is left.
        files: See `taken`.

    Raises:
        ImageError: See `taken`.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=scratch, prefix=".taking-"))
    try:
        place = await asyncio.to_thread(_place, text) if files else _elsewhere(text)
        if isinstance(place, InFile):
            source: Source = await asyncio.to_thread(
                found, Path(place.path), place.tag, folder, text
            )
            image = await source.image()
            if place.digest not in ("", image.manifest, f"sha256:{image.digest}"):
                raise ImageError(
                    f"image {text}: found {image.manifest or image.digest}, expected "
                    f"{place.digest}: the file holds another image by now"
                )
            yield source, image
        else:
            async with Registry.session(place, folder) as registry:
                yield registry, await registry.image()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def container(code_dir: Path, function: Function) -> Container:
    """Return how an image function runs: as its image says, its own settings in their place.

    Raises:
        ImageError: The image names no command, and the function neither; or it is gone.
    """
    path = code_dir / function.digest / _CONFIG
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"image of function {function.name}: {error.strerror}, expected {path}"
        ) from None
    config = config_of(body, function.image_uri or function.digest)
    own = function.image_config
    command = (
        *(own.entry_point or config.config.entry_point),
        *(own.command or config.config.command),
    )
    if not command:
        raise ImageError(
            f"image {function.image_uri}: neither ENTRYPOINT nor CMD, expected a command; "
            "set ImageConfig"
        )
    environment: Mapping[str, str] = config.environment
    working = own.working_directory or config.config.working_directory or "/"
    return Container(root_of(code_dir, function.digest), command, environment, working)


def _elsewhere(text: str) -> InRegistry:
    """Return the registry that has an image, without a look at this machine's files."""
    if in_file(text) is not None or text.startswith(("/", "./", "../")):
        raise ImageError(
            f"image {text[:200]!r}: found a path, expected [HOST/]NAME[:TAG][@sha256:HEX]: callers "
            "who sign may not name files of the server; push the image to a registry, or declare "
            "the function in YAML"
        )
    return in_registry(text)


def _place(text: str) -> InFile | InRegistry:
    written, _, digest = text.partition("@")
    if not is_digest(digest):
        written, digest = text, ""
    named = in_file(written)
    if named is not None:
        return replace(named, digest=digest)
    if not text.startswith("docker://"):
        path, _, tag = written.rpartition(":")
        if _there(written):
            return InFile(written, digest=digest)
        if path and _there(path):
            return InFile(path, tag, digest)
    return in_registry(text)


def _there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # such as a name that is too long for any file
        return False


def _laid_out(image: Image, code_dir: Path, progress: Progress) -> None:
    progress(f"checking the {len(image.layers)} layers of {image.name}")
    tree = merged(image)
    progress(f"unpacking {image.name}: {tree.size >> 20} MiB")
    with tempfile.TemporaryDirectory(dir=code_dir, prefix=".unpacking-") as temporary:
        staged = Path(temporary) / "staged"
        staged.mkdir()
        staged.chmod(0o755)
        laid_out(image, tree, staged / "root")
        (staged / _CONFIG).write_bytes(image.body)
        put_in_place(staged, code_dir, image.digest)
