"""The guest's file systems, put together once the host says what runs in it.

Source: https://man7.org/linux/man-pages/man2/mount.2.html
"""

import ctypes
import fcntl
import os
from pathlib import Path

from faas.guest.order import Disk

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _REC = 32, 4096, 16384
_BLKFLSBUF = 0x1261
_IMAGE = "/mnt"
_OWN = ("proc", "dev", "tmp")
"""Folders of a container's root that are the guest's own and not the image's."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount_disks(disks: list[Disk]) -> None:
    """Mount each disk where it belongs.

    Raises:
        OSError: A disk has no file system, or there is no such folder.
    """
    for disk in disks:
        _mount_disk(disk["device"], disk["at"], writable=disk["writable"])


def container_root(device: str, root: str) -> None:
    """Put the root of a container together at ``root``: the image's folders and our own.

    The image stays as it is: its folders are shown one by one in a root that has ``/proc``,
    ``/dev`` and ``/tmp`` as well, whether the image has them or not.

    Raises:
        OSError: The disk holds no file system.
    """
    _mount_disk(device, _IMAGE)
    _mount("root", root, "tmpfs", _NOSUID | _NODEV, "mode=755")
    for entry in sorted(Path(_IMAGE).iterdir()):
        if entry.name not in _OWN:
            _show(entry, Path(root, entry.name))
    for name in _OWN:
        Path(root, name).mkdir(mode=0o755)
        _mount(f"/{name}", f"{root}/{name}", None, _BIND | _REC)
    for name in ("etc", "opt"):
        Path(root, name).mkdir(exist_ok=True)
    hosts = Path(root, "etc/hosts")
    if hosts.is_file():
        _mount("/etc/hosts", str(hosts), None, _BIND)
    _mount("root", root, None, _REMOUNT | _RDONLY | _NOSUID | _NODEV)


def _show(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(str(source), str(target), None, _BIND)


def _mount_disk(device: str, at: str, *, writable: bool = False) -> None:
    """Mount a disk, and first forget what was read from its forerunner.

    Of one that is written to, the tables are written when they are first used and not before.
    """
    disk = os.open(device, os.O_RDONLY)
    try:
        fcntl.ioctl(disk, _BLKFLSBUF, 0)
    finally:
        os.close(disk)
    flags, options = (0, "noinit_itable") if writable else (_RDONLY, None)
    _mount(device, at, "ext4", flags | _NOSUID | _NODEV, options)


def _mount(
    source: str, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    def text(value: str | None) -> bytes | None:
        return None if value is None else value.encode()

    if _libc.mount(text(source), text(target), text(kind), flags, text(options)):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} at {target}: {os.strerror(number)}")
