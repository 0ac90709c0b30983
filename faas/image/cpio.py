"""A cpio archive for a kernel to start from.

Pure. Source: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_REGULAR = 0o100000
_FOLDER = 0o040000
_DEVICE = 0o020000


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or character device, owned by root.

    Attributes:
        name: Without a leading slash.
        mode: Kind and permissions, as in ``st_mode``.
        body: Content of a file.
        device: Major and minor number of a device.
    """

    name: str
    mode: int
    body: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    """Return a folder that anyone may enter."""
    return Entry(name, _FOLDER | 0o755)


def program(name: str, body: bytes) -> Entry:
    """Return a file that anyone may run."""
    return Entry(name, _REGULAR | 0o755, body)


def device(name: str, major: int, minor: int) -> Entry:
    """Return a character device for root."""
    return Entry(name, _DEVICE | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the entries as one archive, parents before children as given."""
    parts = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if entry.mode & _FOLDER else 1
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.body), 0, 0, *entry.device)
        parts += _MAGIC + b"".join(b"%08X" % field for field in (*fields, len(name), 0))
        parts += name
        parts += bytes(-len(parts) % 4)
        parts += entry.body
        parts += bytes(-len(parts) % 4)
    return bytes(parts)
