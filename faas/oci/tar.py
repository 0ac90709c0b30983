"""A tar, read forward once, with a limit on everything that it may claim.

Pure: it takes any reader and yields values. Of the formats it reads ustar, pax and GNU's long
names; sparse files are refused, since images do not have them.

Source: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html (section "pax
Interchange Format") and https://www.gnu.org/software/tar/manual/html_node/Standard.html
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from faas.oci.documents import ImageError

BLOCK = 512
MAX_ENTRIES = 300_000
MAX_NAME = 4096
MAX_PART = 255
_MAX_HEADER = 1 << 20
_PIECE = 1 << 18
_PAX_LINE = 3
_BINARY = 0x80
"""First byte of a number that is not in octal digits."""
_MOST = (1 << 63) - 1

Read = Callable[[int], bytes]
"""Returns at most so many bytes, none at the end."""


class Kind(Enum):
    """What an entry is."""

    FILE = auto()
    FOLDER = auto()
    LINK = auto()
    SAME = auto()
    OTHER = auto()


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.SAME,
    b"2": Kind.LINK,
    b"5": Kind.FOLDER,
    b"3": Kind.OTHER,
    b"4": Kind.OTHER,
    b"6": Kind.OTHER,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        path: Its parts, none of them empty, ``.`` or ``..``; none at all: the root itself.
        kind: A file, a folder, a symbolic LINK, the SAME file as another, or an OTHER thing
            (a device or a pipe).
        mode: Permission bits.
        size: Bytes of its content; 0 unless it is a file.
        target: Of a link: as written.
        start: Bytes before its content.
    """

    path: tuple[str, ...]
    kind: Kind
    mode: int
    size: int
    target: str
    start: int


class Content:
    """The content of the entry at hand; what is not read is passed over."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._left = size

    def pieces(self) -> Iterator[bytes]:
        """Yield the rest of the content.

        Raises:
            ImageError: The archive ends before.
        """
        while self._left:
            piece = self._read(min(self._left, _PIECE))
            if not piece:
                raise ImageError(f"archive: ends {self._left} bytes early, expected a whole tar")
            self._left -= len(piece)
            yield piece


def entries(read: Read) -> Iterator[tuple[Entry, Content]]:
    """Yield the entries in order; each content can be read until the next is asked for.

    Afterwards the reader is at its end.

    Raises:
        ImageError: It is no tar, ends early, or claims more than a limit allows.
    """
    at, count = 0, 0
    while (header := _block(read)) is not None:
        count += 1
        if count > MAX_ENTRIES:
            raise ImageError(f"archive: over {MAX_ENTRIES} entries, expected fewer")
        at += BLOCK
        extended: dict[str, str] = {}
        while header[156:157] in b"xgLK":
            size = _number(header[124:136])
            if size > _MAX_HEADER:
                raise ImageError(f"archive: header of {size} bytes, expected at most {_MAX_HEADER}")
            body = b"".join(Content(read, _padded(size)).pieces())[:size]
            extended |= _extension(header[156:157], body)
            at += _padded(size) + BLOCK
            following = _block(read)
            if following is None:
                return
            header = following
        entry = _entry(header, extended, at)
        content = Content(read, entry.size)
        yield entry, content
        for _ in content.pieces():
            pass
        padding = _padded(entry.size) - entry.size
        while padding and (piece := read(padding)):  # some writers leave the last one out
            padding -= len(piece)
        at += _padded(entry.size)
    while read(_PIECE):
        pass


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts of a path that is meant from the root.

    Raises:
        ImageError: It leads upward or is too long.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ImageError(f"archive: path {name[:200]!r} leads upward, expected one inside")
    if len(name) > MAX_NAME or any(
        len(part.encode(errors="surrogateescape")) > MAX_PART for part in parts
    ):
        raise ImageError(
            f"archive: path {name[:80]!r}..., expected at most {MAX_NAME} characters and "
            f"{MAX_PART} bytes a part"
        )
    return parts


def _block(read: Read) -> bytes | None:
    """Return the next header, or None at the end: two empty blocks, or nothing more at all."""
    block = b""
    while len(block) < BLOCK and (piece := read(BLOCK - len(block))):
        block += piece
    if not block or not block.strip(b"\0"):
        return None
    if len(block) < BLOCK:
        raise ImageError(f"archive: found {len(block)} bytes, expected a tar's block of {BLOCK}")
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if block[148:156].strip(b" \0").lstrip(b"0") != b"%o" % total:
        raise ImageError("archive: header with a wrong checksum, expected a tar")
    return block


def _entry(header: bytes, extended: Mapping[str, str], at: int) -> Entry:
    kind = _KINDS.get(header[156:157])
    if kind is None or any(key.startswith("GNU.sparse") for key in extended):
        raise ImageError(
            f"archive: entry of kind {header[156:157]!r}, expected files, folders and links"
        )
    name = extended.get("path") or _name(header)
    if header[156:157] == b"\0" and name.endswith("/"):  # how folders were written before 1988
        kind = Kind.FOLDER
    size = _size(extended["size"]) if "size" in extended else _number(header[124:136])
    target = extended.get("linkpath") or _text(header[157:257])
    if len(target) > MAX_NAME or "\0" in target + name:
        raise ImageError(f"archive: entry {name[:80]!r} has a link to no path, expected a path")
    return Entry(
        path=parts_of(name),
        kind=kind,
        mode=_number(header[100:108]) & 0o7777,
        size=size if kind is Kind.FILE else 0,
        target=target if kind in (Kind.LINK, Kind.SAME) else "",
        start=at,
    )


def _name(header: bytes) -> str:
    name, prefix = _text(header[0:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _extension(kind: bytes, body: bytes) -> dict[str, str]:
    match kind:
        case b"L":
            return {"path": _text(body)}
        case b"K":
            return {"linkpath": _text(body)}
        case b"g":  # about the whole archive; nothing there that is of interest
            return {}
        case _:
            return dict(_pax(body))


def _pax(body: bytes) -> Iterator[tuple[str, str]]:
    while body:
        digits, space, _ = body.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > len(str(_MAX_HEADER)):
            raise ImageError("archive: damaged pax header, expected LENGTH KEY=VALUE")
        length = int(digits)
        line = body[len(digits) + 1 : length]
        key, equals, value = line.partition(b"=")
        if length > len(body) or length < len(digits) + _PAX_LINE or not equals:
            raise ImageError("archive: damaged pax header, expected LENGTH KEY=VALUE")
        yield _decoded(key), _decoded(value.removesuffix(b"\n"))
        body = body[length:]


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:40]) > _MOST:
        raise ImageError(f"archive: size {text[:40]!r}, expected a number")
    return int(text)


def _number(field: bytes) -> int:
    """Read an octal number, or a binary one in GNU's way.

    Raises:
        ImageError: It is neither.
    """
    if field[0] == _BINARY:
        number = int.from_bytes(field[1:], "big")
        if number > _MOST:
            raise ImageError("archive: number out of range, expected a tar's")
        return number
    text = field.partition(b"\0")[0].strip()
    if text.strip(b"01234567"):
        raise ImageError(f"archive: number {text!r}, expected octal digits")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    return _decoded(field.partition(b"\0")[0])


def _decoded(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
