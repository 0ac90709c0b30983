"""Which Store a Wherry keeps its records in, so that each command opens the one that is used."""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from wherry.errors import StartError
from wherry.store import Store, opened

VARIABLE = "WHERRY_STORE"
"""Names the Store where no option does."""

_FILE, _NOTE = "wherry.db", "store"
_SCHEMES = ("sqlite", "redis", "rediss", "unix", "redis+sentinel")


def chosen(folder: Path, given: str | None = None) -> str:
    """Return the URL of the Store of the Wherry in ``folder``; it may hold a password.

    That is ``given``, else what `VARIABLE` holds, else what the last Wherry here noted, else a
    file of ``folder``.

    Args:
        folder: Where Wherry keeps its files.
        given: What an option says; None: nothing.

    Raises:
        StartError: What is given is no Store that commands can reach, or the note is unreadable.
    """
    url = given or os.environ.get(VARIABLE) or _noted(folder) or _default(folder)
    scheme, _, rest = url.partition(":")
    if scheme not in _SCHEMES or not rest:
        raise StartError(
            f"store {scheme[:20]!r}: expected sqlite:PATH, redis://HOST:PORT/DB, rediss://..., "
            "unix:PATH or redis+sentinel://HOST:PORT/SERVICE/DB"
        )
    return f"sqlite:{Path(rest).absolute()}" if scheme == "sqlite" else url


def note(folder: Path, url: str) -> None:
    """Let later commands find the Store that the Wherry in ``folder`` uses.

    Raises:
        StartError: The note cannot be written.
    """
    path = folder / _NOTE
    try:
        if url == _default(folder):
            path.unlink(missing_ok=True)
            return
        draft = path.with_name(f".{_NOTE}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(url)
        draft.replace(path)
    except OSError as error:
        raise StartError(f"note {path}: {error.strerror}, expected a file of ours") from None


def fresh(folder: Path, given: str | None = None) -> bool:
    """Return whether the Store is a file that is not there yet.

    Raises:
        StartError: See `chosen`.
    """
    scheme, _, rest = chosen(folder, given).partition(":")
    return scheme == "sqlite" and not Path(rest).exists()


def expect_used(folder: Path, given: str | None = None) -> None:
    """Check that a Wherry may have kept records in the Store.

    Raises:
        StartError: None has, or see `chosen`.
    """
    if fresh(folder, given):
        raise StartError(
            f"state {folder}: no records, expected the folder of a Wherry; go to where it was "
            f"started, name its folder with --state or WHERRY_STATE, or its store with {VARIABLE}"
        )


def shared(url: str) -> bool:
    """Return whether other machines may use the Store, too."""
    return not url.startswith("sqlite:")


def shown(url: str) -> str:
    """Return ``url`` without the name and password in it."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return parts.path
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def environment(url: str) -> Mapping[str, str]:
    """Return our variables for a process that is to use the Store ``url``.

    Its command line would show a password to every user of the machine.
    """
    return {**os.environ, VARIABLE: url}


@asynccontextmanager
async def kept(folder: Path, given: str | None = None) -> AsyncIterator[Store]:
    """Open the Store of the Wherry in ``folder``; see `chosen`."""
    async with opened(chosen(folder, given)) as store:
        yield store


def _default(folder: Path) -> str:
    return f"sqlite:{folder.absolute() / _FILE}"


def _noted(folder: Path) -> str | None:
    path = folder / _NOTE
    try:
        return path.read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "unreadable"
        raise StartError(f"note {path}: {found}, expected the URL of a store") from None
