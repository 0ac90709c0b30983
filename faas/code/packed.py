"""Files made into a zip package: the same files give the same bytes. No file is read twice."""

import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from faas.code.package import MAX_FILES, MAX_UNZIPPED, MAX_ZIPPED
from wherry.errors import WherryError

LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache", ".wherry"})
"""Folders that no package needs."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE, _LINK = 0o100000, 0o120000


class BuildError(WherryError):
    """A directory cannot be made into a package."""


def files_of(directory: Path, *, without: Iterable[str] = ()) -> dict[str, Path]:
    """Return the files below ``directory`` by path, less what no package needs.

    Args:
        directory: Existing folder.
        without: Names of further folders to leave out, wherever they are.

    Raises:
        BuildError: A file is neither a plain file nor a link to one inside of the folder.
    """
    found = {}
    inside = directory.resolve()
    for path in _walk(directory, LEFT_OUT | set(without)):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise BuildError(
                f"function file {path}: a link to elsewhere, not a plain file, expected one"
            )
        if not path.is_file():
            raise BuildError(f"function file {path}: not a plain file, expected one")
        found[path.relative_to(directory).as_posix()] = path
    return found


def zipped(name: str, files: Mapping[str, Path]) -> bytes:
    """Return a zip of ``files``.

    Args:
        name: What messages call it.
        files: Where the content of each path is.

    Raises:
        BuildError: They are over a limit.
    """
    return packed(
        name, ((path, files[path].read_bytes(), _mode(files[path])) for path in sorted(files))
    )


def packed(name: str, entries: Iterable[tuple[str, bytes | str, bool]]) -> bytes:
    """Return a zip of ``entries``: path, content, and whether it may be run.

    Args:
        name: What messages call it.
        entries: In the order of the zip; a content that is a `str` is a symbolic link's text.

    Raises:
        BuildError: They are over a limit.
    """
    size, count, sink = 0, 0, io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, content, executable in entries:
            count += 1
            size += len(content)
            if count > MAX_FILES or size > MAX_UNZIPPED:
                break
            entry = zipfile.ZipInfo(path, _EPOCH)
            mode = 0o755 if executable else 0o644
            entry.external_attr = (
                _LINK | 0o777 if isinstance(content, str) else _FILE | mode
            ) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    body = sink.getvalue()
    if count > MAX_FILES:
        raise BuildError(f"{name}: over {MAX_FILES} files, expected fewer")
    if size > MAX_UNZIPPED or len(body) > MAX_ZIPPED:
        raise BuildError(
            f"{name}: over {MAX_UNZIPPED} bytes of files or {MAX_ZIPPED} bytes zipped, "
            "expected less"
        )
    return body


def _mode(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def _walk(directory: Path, without: frozenset[str]) -> Iterator[Path]:
    for root, folders, names in os.walk(directory):
        folders[:] = sorted(set(folders) - without)
        for name in sorted(names):
            if not name.endswith(".pyc"):
                yield Path(root) / name
