"""The image that guests start from: what it is, and where the cache has it."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import faas.image
from faas.image.layout import laid_out

QEMU = "qemu-system-x86_64"
OFFER = "offer.json"
KEPT = 14 * 24 * 3600.0
_KINDS = ("image-", "guest-", "base-", "opt-", "lang-", "disk-")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Image:
    """The files that every guest starts from.

    Attributes:
        kernel: Uncompressed ELF kernel.
        boot: Archive that the kernel starts from.
        root: Read-only disk with Debian's Python.
        guest: Read-only disk with the runtime and the agent.
        key: Changes whenever one of them does.
    """

    kernel: Path
    boot: Path
    root: Path
    guest: Path
    key: str


def used(folder: Path) -> bool:
    """Return whether ``folder`` exists, and note that it is in use."""
    with suppress(FileNotFoundError):
        os.utime(folder)
        return True
    return False


def pruned(cache: Path, *, now: float) -> list[str]:
    """Remove what nobody used for `KEPT` seconds before ``now`` (Unix time); return the names.

    Another version of this project may share the cache, so what is merely not ours stays.
    """
    gone = []
    for folder in cache.iterdir():
        if folder.name.startswith(_KINDS) and now - folder.stat().st_mtime > KEPT:
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
    return sorted(gone)


def find(program: str) -> str | None:
    """Return the path of a program, looked for where system programs are."""
    return shutil.which(program, path=_PATH)


def built(cache: Path) -> Image | None:
    """Return the image in ``cache`` that fits this version of Wherry, or None."""
    base = base_folder(cache)
    guest = base / f"{laid_out(cache).name}.ext4"
    if not (base / OFFER).exists() or not guest.exists():
        return None
    used(base)
    files = (base / "vmlinux", base / "boot.cpio", base / "root.ext4", guest)
    made = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return Image(*files, hashlib.sha256(repr((base.name, made)).encode()).hexdigest()[:16])


def base_folder(cache: Path) -> Path:
    """Return where images made by this version's code are kept."""
    return cache / f"image-{_recipe()}"


def _recipe() -> str:
    """Return a name for how images are built: it changes when this package's code does."""
    digest = hashlib.sha256()
    for source in sorted(Path(faas.image.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
