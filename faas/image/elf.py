"""What an ELF file needs from others. Pure.

Source: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

import re
import struct
from collections.abc import Iterator

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_TAG = struct.Struct("<qQ")
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS = 0, 1, 5
_GLIBC = re.compile(rb"GLIBC_2\.(\d+)")


def needed(image: bytes) -> list[str]:
    """Return the names of the shared libraries that a 64-bit ELF file asks for."""
    if image[:5] != b"\x7fELF\x02":
        return []
    segments = list(_segments(image))
    tags = [
        tag
        for kind, start, _, size in segments
        if kind == _DYNAMIC
        for tag in _tags(image, start, size)
    ]
    strings = next((value for tag, value in tags if tag == _STRINGS), None)
    if strings is None:
        return []
    base = _offset(segments, strings)
    return [_text(image, base + value) for tag, value in tags if tag == _NEEDED]


def glibc(image: bytes) -> int:
    """Return the highest minor version of glibc 2 whose symbols an ELF file names; 0: none."""
    return max((int(minor) for minor in _GLIBC.findall(image)), default=0)


def _segments(image: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(kind, offset in the file, address, size in the file)``."""
    header = _HEADER.unpack_from(image)
    start, size, count = header[4], header[8], header[9]
    for index in range(count):
        kind, _, offset, address, _, file_size, _, _ = _SEGMENT.unpack_from(
            image, start + index * size
        )
        yield kind, offset, address, file_size


def _tags(image: bytes, start: int, size: int) -> Iterator[tuple[int, int]]:
    for tag, value in _TAG.iter_unpack(image[start : start + size]):
        if tag == _END:
            return
        yield tag, value


def _offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, size in segments:
        if kind == _LOAD and start <= address < start + size:
            return address - start + offset
    return 0


def _text(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()
