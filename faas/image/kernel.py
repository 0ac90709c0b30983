"""The kernel that QEMU starts directly: an ELF file, taken out of a distribution's bzImage."""

import importlib
import struct
from collections.abc import Callable

from wherry.errors import StartError

_LEGACY_MAGIC = b"\x02\x21\x4c\x18"
_BLOCK = 8 << 20
_SIZE = struct.Struct("<I")
Unpack = Callable[[bytes], bytes | None]
_ELF = b"\x7fELF"


def elf_kernel(bz_image: bytes) -> bytes:
    """Return the uncompressed kernel inside ``bz_image``.

    Raises:
        StartError: It holds none that is packed with LZ4.

    Source: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md (legacy frame)
    """
    unpack = _lz4()
    start = bz_image.find(_LEGACY_MAGIC)
    while start >= 0:
        kernel = _unpacked(bz_image, start + len(_LEGACY_MAGIC), unpack)
        if kernel.startswith(_ELF):
            return kernel
        start = bz_image.find(_LEGACY_MAGIC, start + 1)
    raise StartError("kernel: no LZ4 payload found in the image, expected Debian's cloud kernel")


def _lz4() -> Unpack:
    """Return lz4's block decompressor; the package comes with the extra ``faas`` only."""
    try:
        block = importlib.import_module("lz4.block")
    except ModuleNotFoundError:
        raise StartError(
            "package lz4: not installed, expected; install it with: pip install 'wherry[faas]'"
        ) from None

    def unpack(packed: bytes) -> bytes | None:
        try:
            whole: bytes = block.decompress(packed, uncompressed_size=_BLOCK)
        except block.LZ4BlockError:
            return None
        return whole

    return unpack


def _unpacked(data: bytes, at: int, unpack: Unpack) -> bytes:
    """Return the blocks from ``at`` on; a block shorter than the full size is the last."""
    parts = bytearray()
    while at + _SIZE.size <= len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        if not 0 < size <= len(data) - at:
            break
        block = unpack(data[at : at + size])
        if block is None:
            break
        parts += block
        at += size
        if len(block) < _BLOCK:
            break
    return bytes(parts)
