"""An image as layers and code: the files that `port` chose, packed."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from faas.code.package import MAX_UNZIPPED, MAX_ZIPPED
from faas.code.packed import BuildError, packed
from faas.functions.layers import MAX_LAYERS
from faas.oci.documents import ImageError
from faas.oci.image import Image, Progress, contents, merged, written
from faas.oci.linked import MAGIC, Unfit, library, needed
from faas.oci.port import PREFIXES, Place, Skip, Sorted, Taken, code_folder, ordered
from faas.oci.recognised import Recognised, recognised
from faas.oci.tree import File, Merged

_SCRIPTS = (b"#!/bin/sh", b"#!/usr/bin/sh", b"#! /bin/sh")
_WAY_OUT = (
    "leave something out with --without bin, --without lib or such, or run the image as it is "
    "with wherry fn deploy --image"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer made from an image.

    Attributes:
        body: The zip.
        sources: The image's layers that its files come from, from 0.
        files: How many it has.
        size: Bytes of them.
    """

    body: bytes
    sources: tuple[int, ...]
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Ported:
    """What an image became.

    Attributes:
        layers: In the order in which a function is to have them.
        code: The function's own files as a zip; None: there are none.
        code_sources: The image's layers that they come from.
        sorted: Every file by what became of it.
        removed: How many files of lower layers each of the image's layers removes.
        recognised: How the function is to run; None, and then ``unrecognised`` says why.
        warnings: What a user should know.
    """

    layers: tuple[Layer, ...]
    code: bytes | None
    code_sources: tuple[int, ...]
    sorted: Sorted
    removed: tuple[int, ...]
    recognised: Recognised | None
    unrecognised: str
    warnings: tuple[str, ...]


def ported(
    image: Image,
    scratch: Path,
    *,
    without: Collection[Place],
    runtime: str = "",
    handler: str = "",
    progress: Progress,
) -> Ported:
    """Return what ``image`` becomes. Blocks: call it from a thread.

    Args:
        image: Found and fetched.
        scratch: Existing empty folder for the files that are moved.
        without: What is left out.
        runtime: In place of what its command says; empty: none.
        handler: The same.
        progress: Told each step.

    Raises:
        ImageError: The image is damaged, or is too much for layers.
    """
    progress(f"checking the {len(image.layers)} layers of {image.name}")
    tree = merged(image)
    files = ordered(tree, code_folder(tree, image.config))
    files.taken = [each for each in files.taken if each.place not in without]
    files.programs = [] if Place.BIN in without else files.programs
    progress(f"taking {len(files.taken) + len(files.programs)} files out of it")
    extract = _Extract(image, scratch)
    extract.have(each.file for each in (*files.taken, *files.programs))
    warnings = _programs(files, extract)
    if Place.LIB not in without:
        warnings += _libraries(tree, files, extract)
    targets = {each.target for each in files.taken}
    known, why = None, ""
    try:
        known = recognised(tree, image.config, targets, runtime=runtime, handler=handler)
    except ImageError as error:
        why = str(error)
    code = [each for each in files.taken if each.place is Place.CODE]
    groups = _grouped([each for each in files.taken if each.place is not Place.CODE])
    _check_size(image, files.taken)
    progress(f"packing {len(groups)} layers")
    return Ported(
        tuple(_layer(image, group, extract) for group in groups),
        _zip(f"code of {image.name}", code, extract) if code else None,
        tuple(sorted({each.layer for each in code})),
        files,
        tuple(each.removed for each in tree.layers),
        known,
        why,
        tuple(warnings),
    )


class _Extract:
    """Contents of an image's files on disk, each once."""

    def __init__(self, image: Image, folder: Path) -> None:
        self._image, self._folder = image, folder
        self._have: set[tuple[int, int]] = set()

    def have(self, files: Iterable[File]) -> None:
        """Have the contents of ``files``."""
        wanted = {file.source for file in files if file.size} - self._have
        for source, content in contents(self._image, wanted):
            written(content, self._path(source))
        self._have |= wanted

    def content(self, file: File) -> bytes:
        """Return the whole content of a file."""
        return self._path(file.source).read_bytes() if file.size else b""

    def head(self, file: File) -> bytes:
        """Return how the content begins."""
        if not file.size:
            return b""
        with self._path(file.source).open("rb") as opened:
            return opened.read(32)

    def _path(self, source: tuple[int, int]) -> Path:
        return self._folder / f"{source[0]}-{source[1]}"


def _programs(files: Sorted, extract: _Extract) -> list[str]:
    """Move the programs that guests can run; return what is to be said of the others."""
    warnings = []
    for program in files.programs:
        head = extract.head(program.file)
        if not head.startswith((MAGIC, *_SCRIPTS)):
            files.skip(program.layer, Skip.TOOLS)
            continue
        try:
            needed(extract.content(program.file), program.path)
        except Unfit as error:
            files.skip(program.layer, Skip.SYSTEM)
            warnings.append(f"left out: {error}")
        else:
            files.taken.append(program)
    return warnings


def _libraries(tree: Merged, files: Sorted, extract: _Extract) -> list[str]:
    """Move the libraries that the files ask for, and those that these ask for."""
    bundled = {each.target.rpartition("/")[2] for each in files.taken}
    warnings, pending = [], list(files.taken)
    while pending:
        found: list[Taken] = []
        for each in pending:
            if not extract.head(each.file).startswith(MAGIC):
                continue
            for name in needed(extract.content(each.file), each.path):
                if name in bundled:
                    continue
                bundled.add(name)
                at = library(tree, name)
                if at is None:
                    warnings.append(f"{each.path} asks for {name}, which the image has nowhere")
                else:
                    target = PREFIXES[Place.LIB] + name
                    found.append(Taken(Place.LIB, target, at[1], at[1].layer, at[0]))
        extract.have(each.file for each in found)
        files.taken += found
        pending = found
    return warnings


def _grouped(taken: Sequence[Taken]) -> list[list[Taken]]:
    """Return the files by the image's layer, neighbours joined until there are few enough."""
    groups = [
        [each for each in taken if each.layer == layer]
        for layer in sorted({each.layer for each in taken})
    ]
    while len(groups) > MAX_LAYERS:
        sizes = [
            sum(each.file.size for each in first + second) for first, second in pairwise(groups)
        ]
        at = sizes.index(min(sizes))
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    return groups


def _check_size(image: Image, taken: Sequence[Taken]) -> None:
    size = sum(each.file.size for each in taken)
    if size > MAX_UNZIPPED:
        raise ImageError(
            f"image {image.name}: {size} bytes for layers and code, expected at most "
            f"{MAX_UNZIPPED}; {_WAY_OUT}"
        )


def _layer(image: Image, group: Sequence[Taken], extract: _Extract) -> Layer:
    files = {each.target: each for each in group}
    return Layer(
        _zip(f"layer of {image.name}", list(files.values()), extract),
        tuple(sorted({each.layer for each in group})),
        len(files),
        sum(each.file.size for each in files.values()),
    )


def _zip(name: str, group: Sequence[Taken], extract: _Extract) -> bytes:
    files = {each.target: each.file for each in group}
    try:
        return packed(
            name,
            (
                (target, extract.content(files[target]), files[target].executable)
                for target in sorted(files)
            ),
        )
    except BuildError:
        raise ImageError(
            f"{name}: over {MAX_ZIPPED} bytes zipped or too many files, expected less; {_WAY_OUT}"
        ) from None
