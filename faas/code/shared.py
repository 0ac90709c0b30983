"""Files of packages that are equal are one file on the disk, named by its content.

Packages are never written again, so that a name more for the same file harms nobody. The links
under ``.files`` keep no file alive: one that no package has any more goes with `sweep`.
"""

import hashlib
import os
import stat
from pathlib import Path

FOLDER = ".files"
"""Where the files are, under the directory of the packages."""

_WORTH = 4096
"""Bytes from which on a file is shared: smaller ones cost more in names than they save."""


def shared(root: Path, code_dir: Path) -> None:
    """Put the files under ``root`` in place of equal ones, or in their place for others.

    Blocks on the disk: call it from a thread.
    """
    for folder, _, names in os.walk(root):
        for name in names:
            _share(Path(folder) / name, code_dir / FOLDER)


def sweep(code_dir: Path) -> None:
    """Remove the files that no package has."""
    for path in (code_dir / FOLDER).glob("*/*"):
        if path.stat().st_nlink == 1:
            path.unlink()


def _share(path: Path, files: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size < _WORTH:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    mine = files / digest[:2] / f"{digest}-{stat.S_IMODE(found.st_mode):o}"
    mine.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, mine)
    except FileExistsError:
        _replace(path, mine)


def _replace(path: Path, by: Path) -> None:
    """Let ``path`` be ``by``; where the disk takes no further name for it, leave both."""
    staged = path.with_name(f".{path.name[:200]}.sharing")
    try:
        os.link(by, staged)
    except OSError:
        return
    staged.replace(path)
