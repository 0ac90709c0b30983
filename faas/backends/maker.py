"""Names that say which process made a thing, so that what a dead one left is found and removed."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

_MARK = re.compile(r"(?P<space>[0-9]+)-(?P<pid>[0-9]+)-(?P<start>[0-9]+)")
_PREFIX = "made-"


def mark() -> str:
    """Return this process's mark: its space of process ids, its number in it, when it began."""
    return f"{_space()}-{os.getpid()}-{_start(os.getpid())}"


def gone(text: str) -> bool:
    """Return whether ``text`` begins with the mark of a process that has ended.

    Marks from another space of process ids say nothing here, and so they never count as ended.
    """
    match = _MARK.match(text)
    return (
        match is not None
        and int(match["space"]) == _space()
        and _start(int(match["pid"])) != int(match["start"])
    )


def scratch(parent: Path, name: str) -> Path:
    """Make a folder in ``parent`` that only we may enter and that goes should we end early."""
    folder = parent / f"{_PREFIX}{mark()}-{name}"
    parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    return folder


def swept(parent: Path) -> list[str]:
    """Remove the folders of `scratch` whose makers have ended; return their names. Blocks."""
    left = [
        folder
        for folder in sorted(parent.glob(f"{_PREFIX}*"))
        if gone(folder.name.removeprefix(_PREFIX))
    ]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in left]


def _space() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start(pid: int) -> int | None:
    """Return when a process began, in ticks since boot; None when there is none."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return int(fields[19])
    return None
