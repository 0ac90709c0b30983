"""The secret under which key digests are made: a file for its owner only."""

import os
import secrets
import stat
from pathlib import Path

from wherry.errors import StartError

_BYTES = 32


def pepper(path: Path) -> bytes:
    """Return the pepper in ``path``, made at first use; processes agree on one.

    Raises:
        StartError: The file cannot be made or read, others may read it, or it is too short.
    """
    try:
        if not path.exists():
            _make(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        read = path.read_bytes()
    except OSError as error:
        raise StartError(f"pepper {path}: {error.strerror}, expected a file to read") from None
    if mode & 0o077:
        raise StartError(f"pepper {path}: mode {mode:04o}, expected 0600; run chmod 600 {path}")
    if len(read) < _BYTES:
        raise StartError(
            f"pepper {path}: {len(read)} bytes, expected at least {_BYTES}; "
            "restore it, or remove it and make every key anew"
        )
    return read


def _make(path: Path) -> None:
    """Write a new pepper; if another process was first, keep that one's."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
