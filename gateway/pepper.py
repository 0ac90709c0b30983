"""Secrets of the gateway: files for their owner only, made at first use."""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from wherry.errors import StartError
from wherry.store import Store

MARK = "pepper"
"""Key of the record by which the Store knows whose pepper its keys were made under."""

_BYTES = 32


def pepper(path: Path) -> bytes:
    """Return the secret under which key digests are made; processes agree on one.

    Raises:
        StartError: The file cannot be made or read, others may read it, or it is too short.
    """
    read = kept("pepper", path, lambda: secrets.token_bytes(_BYTES))
    if len(read) < _BYTES:
        raise StartError(
            f"pepper {path}: {len(read)} bytes, expected at least {_BYTES}; "
            "restore it, or remove it and make every key anew"
        )
    return read


async def familiar(store: Store, secret: bytes) -> bool:
    """Return whether ``secret`` is the one that was used with ``store`` last, or the first."""
    mark = hmac.digest(secret, MARK.encode(), hashlib.sha256)
    before = await store.get(MARK)
    if before is not None and hmac.compare_digest(before.body, mark):
        return True
    await store.put(MARK, mark)
    return before is None


def kept(what: str, path: Path, made: Callable[[], bytes]) -> bytes:
    """Return what is in ``path``, which is ``made`` at first use; processes agree on one.

    Args:
        what: Names it in errors.
        path: The file.
        made: Returns its first content.

    Raises:
        StartError: The file cannot be made or read, or others may read it.
    """
    try:
        if not path.exists():
            _make(path, made())
        mode = stat.S_IMODE(path.stat().st_mode)
        read = path.read_bytes()
    except OSError as error:
        raise StartError(f"{what} {path}: {error.strerror}, expected a file to read") from None
    if mode & 0o077:
        raise StartError(f"{what} {path}: mode {mode:04o}, expected 0600; run chmod 600 {path}")
    return read


def replaced(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of what is in ``path``, as one change."""
    _drafted(path, content).replace(path)


def _make(path: Path, content: bytes) -> None:
    """Write a new file; if another process was first, keep that one's."""
    draft = _drafted(path, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _drafted(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink()
        raise
    return draft
