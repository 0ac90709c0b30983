"""A directory to packages: the function's own files, and what it asks for beside them."""

from dataclasses import dataclass
from pathlib import Path

from faas.code.dependencies import PYTHON, Progress, Wanted, resolved, wanted
from faas.code.packed import BuildError, files_of, zipped

__all__ = ["PYTHON", "BuildError", "Built", "Progress", "built", "code", "layer"]

_MODULES = "node_modules"


@dataclass(frozen=True, slots=True)
class Built:
    """A function's own files, and what belongs into a layer.

    Attributes:
        code: The zip.
        wanted: What a layer has to hold; None: nothing.
    """

    code: bytes
    wanted: Wanted | None


def built(
    directory: Path, cache_dir: Path, progress: Progress, *, runtime: str = "python3.11"
) -> bytes:
    """Return one package of ``directory`` and of what it asks for, without a layer.

    What is asked for is resolved once per content of the file that asks and kept under
    ``cache_dir``. The directory's own files win over it. Blocks: call it from a thread.

    Raises:
        BuildError: The directory is missing or over a limit, or a requirement has no wheel.
        MissingBinary: There are requirements and no pip, or packages and no npm.
    """
    asked, own = _own(directory, runtime)
    files: dict[str, Path] = {}
    if asked is not None:
        above = "" if asked.folder == "python" else f"{_MODULES}/"
        found = files_of(resolved(asked, cache_dir, progress))
        files |= {above + name: path for name, path in found.items()}
    return zipped(f"function directory {directory}", files | own)


def code(directory: Path, cache_dir: Path, progress: Progress, *, runtime: str) -> Built:
    """Return a function's own files apart from what it asks for.

    Where a module cannot be imported from a layer (Node's ``import`` does not look there), there
    is one package with everything.

    Raises:
        BuildError: The directory is missing or over a limit.
    """
    asked, own = _own(directory, runtime)
    if asked is not None and asked.folder != "python" and _imports(directory, own):
        return Built(built(directory, cache_dir, progress, runtime=runtime), None)
    return Built(zipped(f"function directory {directory}", own), asked)


def layer(asked: Wanted, cache_dir: Path, progress: Progress) -> bytes:
    """Return a layer with what is asked for.

    Raises:
        BuildError: It cannot be had, or is over a limit.
        MissingBinary: There is no pip, or no npm.
    """
    files = files_of(resolved(asked, cache_dir, progress))
    if not files:
        raise BuildError(f"{asked.file}: asks for nothing that has files, expected some")
    return zipped(f"layer of {asked.file}", {f"{asked.folder}/{n}": p for n, p in files.items()})


def _own(directory: Path, runtime: str) -> tuple[Wanted | None, dict[str, Path]]:
    if not directory.is_dir():
        raise BuildError(f"function directory {directory}: not found, expected a directory")
    asked = wanted(directory, runtime)
    npm = asked is not None and asked.folder != "python"
    own = files_of(directory, without=(_MODULES,) if npm else ())
    if not own:
        raise BuildError(f"function directory {directory}: empty, expected the handler's module")
    return asked, own


def _imports(directory: Path, own: dict[str, Path]) -> bool:
    """Return whether a Node package is written in modules that ``import``."""
    if any(name.endswith(".mjs") for name in own):
        return True
    text = (directory / "package.json").read_text(errors="replace")
    return '"type"' in text and '"module"' in text
