"""Saved functions on the disk: found again by their content, checked, and bounded in size."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from faas.backends import maker
from faas.image.built import used

logger = logging.getLogger(__name__)

LIMIT = 20 << 30
"""Bytes on the disk that saved functions may take together, if nobody says otherwise."""

_FACTS = "image.json"
_KIND = "image-"
_BLOCK = 512
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Kept:
    """Images of functions, one folder each, only for their owner's eyes.

    An image holds the function's memory, its environment included. It is good for this boot of
    the host and for what ``base`` names; any other is removed when found.

    Args:
        folder: Where they are.
        base: Name of all that every image depends on besides its own content.
        limit: Most bytes that they take together on the disk; beyond, those that were used
            longest ago go first.
    """

    def __init__(self, folder: Path, *, base: str, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._base = f"{base} {_boot()}"

    def scratch(self, name: str) -> Path:
        """Make a folder for an image in the making; `swept` removes it should we end early."""
        return maker.scratch(self._folder, name)

    def find(self, key: str) -> Path | None:
        """Return the image ``key``, noted as used; a bad one is removed, and then there is none."""
        folder = self._folder / f"{_KIND}{key}"
        if not used(folder):
            return None
        wrong = self._wrong(folder)
        if wrong:
            logger.warning("saved function is bad", extra={"image": folder.name, "why": wrong})
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return folder

    def keep(self, scratch: Path, key: str) -> Path:
        """Make the files in ``scratch`` the image ``key``, and make room for it; return it.

        Of two that are kept at the same time one stays.
        """
        facts = {
            "base": self._base,
            "memory": (scratch / "memory").stat().st_size,
            "state": _digest(scratch / "state"),
        }
        for name, mode in (("memory", 0o600), ("state", 0o600)):
            (scratch / name).chmod(mode)
        (scratch / _FACTS).write_text(json.dumps(facts))
        folder = self._folder / f"{_KIND}{key}"
        try:
            scratch.rename(folder)
        except OSError:
            if self.find(key) is None:
                scratch.rename(folder)
            else:
                shutil.rmtree(scratch, ignore_errors=True)
        self._make_room(but=folder)
        return folder

    def forget(self, owner: str, *, but: Collection[Path]) -> None:
        """Remove the images whose keys begin with ``owner``, except the folders ``but``."""
        for folder in self._folder.glob(f"{_KIND}{owner}*"):
            if folder not in but:
                shutil.rmtree(folder, ignore_errors=True)

    def swept(self) -> list[str]:
        """Remove what can never be used again; return the names. Blocks on the disk."""
        if not self._folder.is_dir():
            return []
        self._folder.chmod(0o700)
        gone = maker.swept(self._folder)
        for folder in sorted(self._folder.glob(f"{_KIND}*")):
            if self._facts(folder).get("base") != self._base:
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder.name)
        return gone

    def _make_room(self, *, but: Path) -> None:
        by_age = sorted(self._folder.glob(f"{_KIND}*"), key=_used_at, reverse=True)
        by_age = [but, *(folder for folder in by_age if folder != but)]
        taken = 0
        for folder in by_age:
            taken += _size(folder)
            if taken > self._limit and folder != but:
                logger.info("saved function removed: no room", extra={"image": folder.name})
                shutil.rmtree(folder, ignore_errors=True)

    def _wrong(self, folder: Path) -> str:
        """Return what is wrong with an image; empty: nothing."""
        facts = self._facts(folder)
        if facts.get("base") != self._base:
            return "saved by another Wherry, QEMU, guest image or boot of this host"
        try:
            if (folder / "memory").stat().st_size != facts.get("memory"):
                return "memory of another size"
            if _digest(folder / "state") != facts.get("state"):
                return "state with another content"
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return ""

    @staticmethod
    def _facts(folder: Path) -> dict[str, object]:
        with suppress(OSError, ValueError):
            facts = json.loads((folder / _FACTS).read_text())
            if isinstance(facts, dict):
                return facts
        return {}


def owner(function: str, version: str | None) -> str:
    """Return how the keys of a version's images begin; of all of a function's with None."""
    names = [function] if version is None else [function, version]
    return "".join(f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-" for name in names)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _used_at(folder: Path) -> float:
    with suppress(OSError):
        return folder.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    """Return what a folder's files take; one that has other names too counts for nothing."""
    total = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            state = entry.stat(follow_symlinks=False)
            total += state.st_blocks * _BLOCK if state.st_nlink == 1 else 0
    return total


def _boot() -> str:
    """Return the number of this boot of the host: its clock and processor are in what is saved."""
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return ""
