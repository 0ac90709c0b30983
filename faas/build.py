"""A directory of Python to a code package: the same files give the same bytes."""

import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from faas.package import MAX_FILES, MAX_UNZIPPED, MAX_ZIPPED
from wherry.errors import MissingBinary, WherryError

Progress = Callable[[str], None]
"""Takes one line on what is being done; may be called from a thread."""

PYTHON = "3.11"
"""The Python that functions run on, whatever runs Wherry."""
PIP_SECONDS = 600.0
_LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache"})
_EPOCH = (1980, 1, 1, 0, 0, 0)


class BuildError(WherryError):
    """A directory cannot be made into a package."""


def built(directory: Path, cache_dir: Path, progress: Progress) -> bytes:
    """Return the package of ``directory`` and of what its ``requirements.txt`` asks for.

    Requirements are resolved once per content of that file and kept under ``cache_dir``; nothing
    is compiled, only wheels are taken. The directory's own files win over them. Blocks: call it
    from a thread.

    Raises:
        BuildError: The directory is missing or over a limit, or a requirement has no wheel.
        MissingBinary: There are requirements and no pip.
    """
    if not directory.is_dir():
        raise BuildError(f"function directory {directory}: not found, expected a directory")
    files: dict[str, Path] = {}
    requirements = directory / "requirements.txt"
    if requirements.is_file() and _asks_for_something(requirements.read_text()):
        files |= _files(_resolved(requirements, cache_dir, progress))
    files |= _files(directory)
    if not files:
        raise BuildError(f"function directory {directory}: empty, expected the handler's module")
    return _zipped(directory, files)


def _asks_for_something(text: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in text.splitlines())


def _resolved(requirements: Path, cache_dir: Path, progress: Progress) -> Path:
    """Return a directory with what ``requirements`` asks for, installed by pip."""
    content = f"{PYTHON} {os.uname().machine}\n".encode() + requirements.read_bytes()
    target = cache_dir / hashlib.sha256(content).hexdigest()
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    progress(f"installing {requirements}")
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".installing-") as temporary:
        staged = Path(temporary) / "staged"
        _pip(requirements, staged)
        staged.mkdir(exist_ok=True)
        for each in staged.rglob("__pycache__"):
            shutil.rmtree(each)
        if not target.is_dir():
            staged.rename(target)
    progress(f"installed {requirements}")
    return target


def _pip(requirements: Path, target: Path) -> None:
    platforms = [
        f"--platform=manylinux{tag}_{os.uname().machine}" for tag in ("2014", "_2_28", "_2_34")
    ]
    command = [*_pip_program(), "install", "--quiet", "--no-input", "--no-compile"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={PYTHON}", *platforms]
    command += [f"--target={target}", f"--requirement={requirements}"]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"requirements {requirements}: pip took over {PIP_SECONDS:g} s, expected less"
        ) from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise BuildError(
            f"requirements {requirements}: pip said {' '.join(said or done.stderr.splitlines())}, "
            f"expected wheels for Python {PYTHON}; what has no wheel can be put into the directory"
        )


def _pip_program() -> list[str]:
    """Return how pip is run: this Python's own, else any on PATH; it only fetches wheels."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise MissingBinary("pip", "install it to deploy functions that have requirements")
    return [found]


def _files(directory: Path) -> Mapping[str, Path]:
    return {path.relative_to(directory).as_posix(): path for path in _walk(directory)}


def _walk(directory: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(directory):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for name in sorted(names):
            if not name.endswith(".pyc"):
                yield Path(root) / name


def _zipped(directory: Path, files: Mapping[str, Path]) -> bytes:
    if len(files) > MAX_FILES:
        raise BuildError(
            f"function directory {directory}: found {len(files)} files, expected at most "
            f"{MAX_FILES}"
        )
    size, sink = 0, io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            path = files[name]
            if path.is_symlink() or not path.is_file():
                raise BuildError(f"function file {path}: not a plain file, expected one")
            mode = 0o755 if path.stat().st_mode & 0o111 else 0o644
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            body = path.read_bytes()
            size += len(body)
            if size > MAX_UNZIPPED:
                break
            archive.writestr(entry, body)
    zipped = sink.getvalue()
    if size > MAX_UNZIPPED or len(zipped) > MAX_ZIPPED:
        raise BuildError(
            f"function directory {directory}: over {MAX_UNZIPPED} bytes of files or "
            f"{MAX_ZIPPED} bytes zipped, expected less"
        )
    return zipped
