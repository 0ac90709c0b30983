"""The token that the owner of the machine finds in a file, so that somebody can begin."""

import asyncio
import os
import secrets
from pathlib import Path

from gateway.admin.endpoint import Role
from gateway.admin.tokens import FOLDER, bearer, create
from wherry.clock import Clock
from wherry.errors import StartError
from wherry.store import Store

NAME = "local"
"""Of that token."""


async def first_token(store: Store, pepper: bytes, path: Path, clock: Clock) -> None:
    """See that ``path`` holds an owner's token that is accepted, readable by its owner only.

    One that is lost, revoked or of another pepper is made anew; the old one counts no more.

    Raises:
        StartError: The file cannot be read or written.
    """
    try:
        text = await asyncio.to_thread(_read, path)
        token = await bearer(store, pepper, text, now_ns=clock.unix_ns()) if text else None
        if token is not None and token.role is Role.OWNER:
            return
        await store.delete(FOLDER + NAME)
        _, text = await create(store, pepper, NAME, Role.OWNER, now_ns=clock.unix_ns())
        await asyncio.to_thread(_write, path, text)
    except OSError as error:
        raise StartError(f"token {path}: {error.strerror}, expected a file of ours") from None


def _read(path: Path) -> str:
    """Return what the file holds, or nothing when others may read it or it is no text."""
    try:
        if path.stat().st_mode & 0o077:
            return ""
        return path.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
    draft.replace(path)
