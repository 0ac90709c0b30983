"""Usage on the disk of this machine until the Store has it.

Each process has a folder of its own, locked as long as it lives, with segments that are only
appended to. A record is a head (length, checksum, number) and a body; a record that a crash cut
off ends its segment. The name of the process' folder and the number make the id under which the
Store's log holds the body once, however often it is sent.
"""

import errno
import fcntl
import logging
import os
import secrets
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from gateway.metering.kept import Held
from wherry.errors import StartError
from wherry.store import MAX_BODY

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 << 20
"""Bytes after which a segment is left for a new one."""

_HEAD = struct.Struct(">IIQ")
_OF_A_PLACE = 256
_LOCK, _SUFFIX, _DAMAGED = "lock", ".usage", ".damaged"


class _Place(NamedTuple):
    segment: Path
    offset: int
    length: int
    number: int

    @property
    def cost(self) -> int:
        """Bytes on the disk and, for the place itself, in memory."""
        return self.length + _OF_A_PLACE


class Journal:
    """The records of one process. Blocking, for one thread at a time.

    Made by `begun`, or by `left` for a process that is gone.

    Attributes:
        number: Of the next record.
        size: Bytes that records take which were not `sent`.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder, self._lock = folder, lock
        self._places: deque[_Place] = deque()
        self._segments = self.number = 0
        self._segment: Path | None = None
        self._file, self._end = -1, 0
        self.size = 0

    @classmethod
    def begun(cls, parent: Path) -> Self:
        """Return a new journal in a folder of its own in ``parent``, made if need be.

        Raises:
            StartError: It cannot be written there.
        """
        name = secrets.token_hex(8)
        staged = parent / f".{name}"
        try:
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged.mkdir(mode=0o700)
            lock = _locked(staged)
            staged.rename(parent / name)
        except OSError as error:
            raise StartError(
                f"usage {parent}: {error.strerror}, expected a folder that we may write to"
            ) from None
        if lock is None:
            raise StartError(f"usage {staged}: locked by another, expected a folder of ours alone")
        return cls(parent / name, lock)

    @classmethod
    def left(cls, parent: Path) -> Iterator[Self]:
        """Yield what processes that are gone left in ``parent``, oldest first."""
        folders = [each for each in parent.glob("[!.]*") if each.is_dir()]
        for folder in sorted(folders, key=_changed):
            lock = _locked(folder)
            if lock is not None:
                journal = cls(folder, lock)
                for segment in sorted(folder.glob(f"*{_SUFFIX}")):
                    journal._found(segment)
                yield journal

    def write(self, bodies: Sequence[bytes]) -> None:
        """Append records; they are on the disk when this returns.

        Raises:
            OSError: They are not, or not surely. The next write must begin with the very same
                bodies: it gives them the same ids, in another segment.
        """
        segment = self._segment
        if segment is None or self._end >= SEGMENT_BYTES:
            segment = self._begin_segment()
        data, places = bytearray(), []
        for number, body in enumerate(bodies, self.number):
            data += _HEAD.pack(len(body), _checksum(number, body), number)
            places.append(_Place(segment, self._end + len(data), len(body), number))
            data += body
        try:
            _write_all(self._file, data)
            os.fdatasync(self._file)
        except OSError:
            self._end_segment()
            raise
        self._end += len(data)
        self.number += len(bodies)
        self._places.extend(places)
        self.size += sum(place.cost for place in places)

    def waiting(self, most_bytes: int) -> list[Held]:
        """Return the oldest records that were not `sent`, up to ``most_bytes``, at least one.

        Raises:
            OSError: They cannot be read.
        """
        found: list[Held] = []
        size = 0
        for place in self._places:
            size += place.length
            if found and size > most_bytes:
                break
            found.append(Held(f"{self._folder.name}-{place.number:x}", _read(place)))
        return found

    def sent(self, count: int) -> None:
        """Forget the ``count`` oldest records: the Store has them."""
        done = set()
        for _ in range(count):
            place = self._places.popleft()
            self.size -= place.cost
            done.add(place.segment)
        kept = {self._places[0].segment} if self._places else set()
        for segment in done - kept:
            if segment == self._segment:
                self._end_segment()
            segment.unlink(missing_ok=True)

    def close(self) -> None:
        """End; the folder goes if every record was sent."""
        self._end_segment()
        if not self._places:
            for segment in self._folder.glob(f"*{_SUFFIX}"):  # of writes that failed
                segment.unlink()
            if not any(self._folder.glob(f"*{_DAMAGED}")):
                (self._folder / _LOCK).unlink()
                self._folder.rmdir()
        os.close(self._lock)

    def _begin_segment(self) -> Path:
        self._end_segment()
        self._segments += 1
        path = self._folder / f"{self._segments:08}{_SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._segment, self._end = path, 0
        _sync_folder(self._folder)
        return path

    def _end_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._segment = -1, None

    def _found(self, segment: Path) -> None:
        """Note the records of a segment of a process that is gone."""
        data = segment.read_bytes()
        offset = 0
        while (place := _record(segment, data, offset)) is not None:
            self._places.append(place)
            self.size += place.cost
            offset = place.offset + place.length
        lost = len(data) - offset
        if lost and _whole(data, offset):
            segment.with_suffix(_DAMAGED).write_bytes(data[offset:])
            logger.error("usage is damaged", extra={"segment": str(segment), "bytes": lost})
        elif lost:
            logger.warning("usage was cut off", extra={"segment": str(segment), "bytes": lost})
        if not offset:
            segment.unlink()


def _record(segment: Path, data: bytes, offset: int) -> _Place | None:
    """Return the record whose head is at ``offset``, or None when there is no sound one."""
    if not _whole(data, offset):
        return None
    length, checksum, number = _HEAD.unpack_from(data, offset)
    start = offset + _HEAD.size
    if _checksum(number, data[start : start + length]) != checksum:
        return None
    return _Place(segment, start, length, number)


def _whole(data: bytes, offset: int) -> bool:
    """Return whether as many bytes follow as the head at ``offset`` says, which says some."""
    if len(data) < offset + _HEAD.size:
        return False
    length: int = _HEAD.unpack_from(data, offset)[0]
    return 0 < length <= MAX_BODY and len(data) >= offset + _HEAD.size + length


def _checksum(number: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big")))


def _read(place: _Place) -> bytes:
    with place.segment.open("rb") as file:
        file.seek(place.offset)
        body = file.read(place.length)
    if len(body) < place.length:
        raise OSError(errno.EIO, "shorter than it was written", str(place.segment))
    return body


def _write_all(file: int, data: bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _locked(folder: Path) -> int | None:
    """Return the descriptor that holds the lock of ``folder``, or None when another has it."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _changed(folder: Path) -> float:
    return folder.stat().st_mtime


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
