"""Bytes on their way from a blob to a reader: counted, verified, decompressed within limits. Pure.

Nothing here opens anything; a stream is a function that returns at most so many bytes.
"""

import hashlib
import importlib
import zlib
from typing import Any

from faas.oci.documents import MAX_BLOB, ImageError
from faas.oci.tar import Read

MAX_IMAGE = 10 << 30
"""Most bytes in an image's files. Source: Lambda quotas, "Container image code package size"."""
MAX_RATIO = 200
"""How much larger a layer may be than its compressed form, once it is past `RATIO_FROM`."""
RATIO_FROM = 64 << 20

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7z": "xz"}
_PIECE = 1 << 17
_WINDOW_LOG = 27
"""Largest window of zstd: 128 MiB, as its own program has it."""


class Verified:
    """A stream that is checked at its end against a digest and, when known, a size."""

    def __init__(self, read: Read, *, digest: str, name: str, size: int | None = None) -> None:
        self._source = read
        self._digest, self._name, self._size = digest, name, size
        self._hash = hashlib.sha256()
        self.count = 0

    def read(self, most: int) -> bytes:
        """See `Read`.

        Raises:
            ImageError: At the end, when the content is not what it has to be, or is too long.
        """
        piece = self._source(most)
        self.count += len(piece)
        if self.count > (MAX_BLOB if self._size is None else self._size):
            raise ImageError(
                f"{self._name}: over {self.count - len(piece)} bytes, expected "
                f"{'fewer' if self._size is None else self._size}"
            )
        self._hash.update(piece)
        if not piece:
            self._check()
        return piece

    def _check(self) -> None:
        found = f"sha256:{self._hash.hexdigest()}"
        if self._size is not None and self.count != self._size:
            raise ImageError(f"{self._name}: found {self.count} bytes, expected {self._size}")
        if found != self._digest:
            raise ImageError(f"{self._name}: found {found}, expected {self._digest}")


class Plain:
    """A layer as a plain tar, whatever it is compressed with: gzip, zstd or nothing."""

    def __init__(self, read: Read, name: str) -> None:
        self._source = read
        self._name = name
        self._first: bytes | None = None
        self._kind: bytes = b""
        self._inflater: Any = None
        self._pending = b""
        self._came = self._gave = 0

    def read(self, most: int) -> bytes:
        """See `Read`.

        Raises:
            ImageError: The compressed form is damaged, unknown, or expands beyond measure.
        """
        if self._first is None:
            self._begin()
        piece = self._raw(most) if not self._kind else self._expanded(most)
        self._gave += len(piece)
        if self._gave > RATIO_FROM and self._gave > MAX_RATIO * self._came:
            raise ImageError(
                f"{self._name}: {self._gave} bytes from {self._came}, expected at most "
                f"{MAX_RATIO} times as many"
            )
        return piece

    def _begin(self) -> None:
        first = b""
        while len(first) < len(_ZSTD) and (piece := self._source(_PIECE)):
            first += piece
        self._first = first
        self._came = len(first)
        for magic, kind in _OTHERS.items():
            if first.startswith(magic):
                raise ImageError(f"{self._name}: found {kind}, expected gzip, zstd or a plain tar")
        self._kind = next((magic for magic in (_GZIP, _ZSTD) if first.startswith(magic)), b"")

    def _raw(self, most: int) -> bytes:
        if self._first:
            piece, self._first = self._first[:most], self._first[most:]
            return piece
        piece = self._source(most)
        self._came += len(piece)
        return piece

    def _expanded(self, most: int) -> bytes:
        while True:
            if self._inflater is None or self._inflater.eof:
                if not self._more():
                    return b""
                self._inflater = _inflater(self._kind, self._name)
            fed = self._more()
            piece = self._step(most)
            if piece:
                return piece
            if not fed and not self._inflater.eof:
                raise ImageError(f"{self._name}: ends early, expected a whole compressed stream")

    def _more(self) -> bool:
        """Have some compressed bytes at hand, or return False at the end."""
        while not self._pending:
            piece = self._first or self._source(_PIECE)
            self._came += 0 if self._first else len(piece)
            self._first = b""
            if not piece:
                return False
            behind = self._inflater is not None and self._inflater.eof
            self._pending = piece.lstrip(b"\0") if behind else piece
        return True

    def _step(self, most: int) -> bytes:
        fed = self._pending if self._kind == _GZIP or self._inflater.needs_input else b""
        try:
            piece: bytes = self._inflater.decompress(fed, most)
        except Exception as error:
            if isinstance(error, zlib.error) or type(error).__name__ == "ZstdError":
                raise ImageError(f"{self._name}: {error}, expected a whole stream") from None
            raise
        if self._inflater.eof:
            self._pending = self._inflater.unused_data.lstrip(b"\0") or (
                b"" if fed else self._pending
            )
        elif fed:
            self._pending = self._inflater.unconsumed_tail if self._kind == _GZIP else b""
        return piece


def _inflater(kind: bytes, name: str) -> Any:
    if kind == _GZIP:
        return zlib.decompressobj(wbits=31)
    try:
        zstd = importlib.import_module("backports.zstd")
    except ImportError:
        raise ImageError(
            f"{name}: compressed with zstd, expected gzip or the package backports.zstd; "
            "install it with: pip install 'wherry[faas]'"
        ) from None
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
