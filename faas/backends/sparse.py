"""Second names and copies of files that are mostly holes."""

import errno
import os
import shutil
from pathlib import Path

_ELSEWHERE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""What the kernel says when it cannot copy between these two file systems."""

_PIECE = 1 << 20


_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK}


def linked(source: Path, target: Path) -> None:
    """Give a file a second name; on another file system copy it."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        sparse_copy(source, target)
        shutil.copystat(source, target)


def sparse_copy(source: Path, target: Path) -> None:
    """Copy a file without its holes, in the kernel where both ends are on one file system."""
    with target.open("wb") as copy:
        sparse_fill(source, copy.fileno())


def sparse_fill(source: Path, copy: int) -> None:
    """Fill an empty file, by its descriptor, as `sparse_copy` does."""
    with source.open("rb") as original:
        size = os.fstat(original.fileno()).st_size
        os.truncate(copy, size)
        start = 0
        while (start := _next(original.fileno(), start, os.SEEK_DATA)) < size:
            end = _next(original.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += _copied(original.fileno(), copy, start, end - start)


def _copied(source: int, target: int, at: int, size: int) -> int:
    """Copy at most ``size`` bytes at ``at``; return how many."""
    try:
        return os.copy_file_range(source, target, size, at, at)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
    return os.pwrite(target, os.pread(source, min(size, _PIECE), at), at)


def _next(file: int, at: int, what: int) -> int:
    """Return where data or a hole next begins; the end of the file when none does."""
    try:
        return os.lseek(file, at, what)
    except OSError:
        return os.fstat(file).st_size
