"""Packages of functions and layers: a zip is verified, unpacked once and named by its content."""

import base64
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from faas.code import links, shared
from faas.lambda_errors import InvalidParameter

MAX_ZIPPED = 50 * 1024 * 1024
"""Most bytes in an uploaded package. Source: Lambda quotas, "Deployment package"."""
MAX_UNZIPPED = 262_144_000
"""Most bytes in all files of a package. Source: Lambda quotas, "Deployment package"."""
MAX_FILES = 20_000
MAX_PATH = 1024
_MAX_DIRECTORY = 8 * 1024 * 1024
_END = struct.Struct("<4s4H2LH")
_CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REMOVING = threading.Lock()
"""Held while a package is found to be there, and while one is taken away."""
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises, over all of its formats, for bytes that it cannot read."""


@dataclass(frozen=True, slots=True)
class Package:
    """A verified package on disk.

    Attributes:
        digest: SHA-256 of the zip, in hex.
        size: Bytes in the zip.
        root: Directory of the unpacked files; never written again.
    """

    digest: str
    size: int
    root: Path


def checksum(digest: str) -> str:
    """Return a hex SHA-256 in base64, as ``CodeSha256`` spells it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def root_of(code_dir: Path, digest: str) -> Path:
    """Return where the package ``digest`` is unpacked."""
    return code_dir / digest / "root"


def zip_of(code_dir: Path, digest: str) -> Path:
    """Return where the package ``digest`` is kept as it was uploaded."""
    return code_dir / digest / "package.zip"


def size_of(code_dir: Path, digest: str) -> int:
    """Return how many bytes the files of the unpacked package ``digest`` hold.

    Blocks on the disk: call it from a thread.
    """
    return sum(
        (Path(folder) / name).lstat().st_size
        for folder, _, names in os.walk(root_of(code_dir, digest))
        for name in names
    )


def unpacked(body: bytes, code_dir: Path) -> Package:
    """Verify ``body`` and unpack it under ``code_dir``; the same bytes are unpacked once.

    Equal files of different packages are one file on the disk. Blocks on the disk: call it from
    a thread.

    Raises:
        InvalidParameter: The bytes are no zip, are over a limit, or hold a path or a kind of
            entry that may not be unpacked.
    """
    if len(body) > MAX_ZIPPED:
        raise InvalidParameter(
            f"Zipped size must be smaller than {MAX_ZIPPED} bytes: found {len(body)}"
        )
    digest = hashlib.sha256(body).hexdigest()
    package = Package(digest, len(body), root_of(code_dir, digest))
    if present(code_dir, digest):
        return package
    code_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=code_dir, prefix=".unpacking-") as temporary:
        staged = Path(temporary) / "staged"
        (staged / "root").mkdir(parents=True)
        staged.chmod(0o755)
        _extract(body, staged / "root")
        _show(staged / "root")
        shared.shared(staged / "root", code_dir)
        (staged / "package.zip").write_bytes(body)
        put_in_place(staged, code_dir, digest)
    return package


def present(code_dir: Path, digest: str) -> bool:
    """Return whether a package is there; one that is counts as new from now on for `remove`."""
    with _REMOVING:
        try:
            os.utime(code_dir / digest)
        except FileNotFoundError:
            return False
        return True


def put_in_place(staged: Path, code_dir: Path, digest: str) -> None:
    """Make ``staged`` the package ``digest``, unless another was quicker."""
    with _REMOVING:
        if (code_dir / digest).is_dir():
            os.utime(code_dir / digest)
        else:
            staged.rename(code_dir / digest)


def packages(code_dir: Path) -> set[str]:
    """Return the digests of all packages."""
    if not code_dir.is_dir():
        return set()
    return {path.name for path in code_dir.iterdir() if _DIGEST.fullmatch(path.name)}


def remove(code_dir: Path, digests: Iterable[str], *, before_ns: int) -> list[str]:
    """Remove packages that were found there last before ``before_ns``; return those that went.

    May run beside `unpacked`. Blocks on the disk: call it from a thread.
    """
    gone = []
    for digest in digests:
        path, aside = code_dir / digest, code_dir / f".gone-{digest}"
        with _REMOVING:
            if not path.is_dir() or path.stat().st_mtime_ns >= before_ns:
                continue
            path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        gone.append(digest)
    shared.sweep(code_dir)
    return gone


def sweep(code_dir: Path, keep: Iterable[str]) -> list[str]:
    """Remove every package whose digest is not in ``keep``; return what went.

    Only when nothing runs or unpacks: what an unpacking left half done goes too.
    """
    kept = {*keep, shared.FOLDER}
    gone = [path for path in code_dir.glob("*") if path.is_dir() and path.name not in kept]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    shared.sweep(code_dir)
    return sorted(path.name for path in gone)


def _extract(body: bytes, root: Path) -> None:
    try:
        _check_directory_size(body)
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = _verified(archive.infolist())
            targets = {
                _parts(entry): _target(archive, entry) for entry in entries if _is_link(entry)
            }
            links.check(targets, [_parts(entry) for entry in entries])
            for entry in entries:
                if not _is_link(entry):
                    _write(archive, entry, root / entry.filename)
            for parts, target in targets.items():
                link = root.joinpath(*parts)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target)
    except _UNREADABLE as error:
        raise InvalidParameter(
            "Could not unzip uploaded file. Please check your file, then try to upload again. "
            f"({error})"
        ) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidParameter("Uploaded file names one path as file and as folder") from error


def _show(root: Path) -> None:
    """Let functions, which run as another user, enter every folder, whatever the umask says."""
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)


def _check_directory_size(body: bytes) -> None:
    """Refuse a table of contents that would cost more memory than a package is worth."""
    at = body.rfind(b"PK\x05\x06", -(_END.size + 0xFFFF))
    if at < 0 or at + _END.size > len(body):
        raise zipfile.BadZipFile("no end record: this is no zip file")
    size = _END.unpack_from(body, at)[5]
    if size > _MAX_DIRECTORY:
        raise InvalidParameter(
            f"Uploaded file's table of contents: found {size} bytes, "
            f"expected at most {_MAX_DIRECTORY}"
        )


def _verified(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    if not any(not entry.is_dir() for entry in entries):
        raise InvalidParameter("Uploaded file must be a non-empty zip")
    if len(entries) > MAX_FILES:
        raise InvalidParameter(
            f"Uploaded file: found {len(entries)} entries, expected at most {MAX_FILES}"
        )
    total = sum(entry.file_size for entry in entries)
    if total > MAX_UNZIPPED:
        raise InvalidParameter(
            f"Unzipped size must be smaller than {MAX_UNZIPPED} bytes: found {total}"
        )
    for entry in entries:
        _check_entry(entry)
    return entries


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    path = PurePosixPath(name)
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or "\0" in name
        or len(name.encode(errors="replace")) > MAX_PATH
    ):
        raise InvalidParameter(
            f"Uploaded file entry {name[:80]!r}: found a path that leaves the package or cannot "
            f"be a file name, expected a relative path of at most {MAX_PATH} bytes"
        )
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise InvalidParameter(
            f"Uploaded file entry {name[:80]!r}: found a special file, "
            "expected files, folders and links"
        )


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _parts(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(entry.filename).parts


def _target(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    """Return where a link leads, as the archive says it.

    Raises:
        InvalidParameter: It is no path.
    """
    with archive.open(entry) as source:
        target = source.read(MAX_PATH + 1)
    if not 0 < len(target) <= MAX_PATH or b"\0" in target:
        raise InvalidParameter(
            f"Uploaded file entry {entry.filename[:80]!r}: found a link to no path, "
            f"expected a path of at most {MAX_PATH} bytes"
        )
    return os.fsdecode(target)


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"{entry.filename[:80]!r} holds more than it declares")
            sink.write(chunk)
    target.chmod(0o755 if (entry.external_attr >> 16) & 0o111 else 0o644)
