"""Disks: a folder as an ext4 image, or an empty one to write to, made without root."""

import asyncio
from pathlib import Path

from faas.vm import BootFailed

_BLOCK = 4096
_SPARE = 4 << 20
_PER_FILE = 512
"""Bytes that an inode takes, with room to spare."""
_RESERVED_MIB = 24
"""What the kernel keeps of a file system that is written to, and what its tables take."""


async def ext4(source: Path, target: Path, *, capacity: int | None = None) -> None:
    """Write ``source`` as an ext4 image that belongs to root.

    Args:
        source: Folder; owners are kept out, permissions are kept.
        target: New file.
        capacity: Bytes that the disk shows; None: as the content needs.

    Raises:
        BootFailed: mke2fs failed, or the content does not fit.
    """
    size = await asyncio.to_thread(_size, source)
    if capacity is not None and size > capacity:
        raise BootFailed(source.name, f"{size} bytes of code", f"at most {capacity}")
    await _run(
        source.name,
        "mke2fs",
        *("-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-m", "0", "-O", "^has_journal"),
        *("-E", "root_owner=0:0", "-d", str(source), str(target), str(size // _BLOCK)),
    )
    await _run(source.name, "debugfs", "-w", "-R", "rmdir lost+found", str(target))
    if capacity is not None:
        with target.open("r+b") as image:
            image.truncate(capacity)


async def blank_ext4(target: Path, *, mib: int, capacity: int) -> None:
    """Write an empty file system that anybody may write to.

    It has no journal, and its tables are written when they are first used, so that the file is
    small: whoever mounts it says ``noinit_itable``.

    Args:
        target: New file.
        mib: What fits on it.
        capacity: Bytes that the disk shows.

    Raises:
        BootFailed: mke2fs failed.
    """
    size = mib + mib // 64 + _RESERVED_MIB << 20
    await _run(
        target.name,
        "mke2fs",
        *("-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-m", "0", "-i", "16384"),
        *("-O", "^has_journal,^resize_inode"),
        *("-E", "root_owner=0:0,packed_meta_blocks=1,lazy_itable_init=1,nodiscard"),
        *(str(target), str(size // _BLOCK)),
    )
    await _run(target.name, "debugfs", "-w", "-R", "rmdir lost+found", str(target))
    await _run(target.name, "debugfs", "-w", "-R", "sif <2> mode 041777", str(target))
    with target.open("r+b") as image:
        image.truncate(capacity)


async def _run(name: str, program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
    )
    _, said = await process.communicate()
    if process.returncode:
        raise BootFailed(name, f"{program} said {said.decode(errors='replace')[-300:]!r}", "a disk")


def _size(source: Path) -> int:
    total = _SPARE
    for path in source.rglob("*"):
        content = path.lstat().st_size
        total += -(-content // _BLOCK) * _BLOCK + _BLOCK // 8 + _PER_FILE
    total += total // 16
    return -(-total // _BLOCK) * _BLOCK
