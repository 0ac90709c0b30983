"""Where a running Wherry notes the addresses of its parts, and where commands find them."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wherry.errors import StartError

_FILE = "addresses.json"
_CONSUMERS = "consumers.json"


def state_dir(given: Path | None = None) -> Path:
    """Return ``given``, else WHERRY_STATE, else ``.wherry`` in the working directory; absolute."""
    return (given or Path(os.environ.get("WHERRY_STATE") or ".wherry")).absolute()


def addresses(folder: Path) -> Mapping[str, str]:
    """Return the address of each part that runs: ``HOST:PORT`` by name.

    Raises:
        StartError: Nothing runs here, or the note is damaged.
    """
    path = folder / _FILE
    try:
        noted = json.loads(path.read_text())
    except FileNotFoundError:
        raise StartError(
            f"{path}: not found, expected the addresses of a running Wherry; "
            "nothing runs here: start with wherry up, go to the folder where it was started, "
            "or set WHERRY_STATE"
        ) from None
    except (OSError, ValueError) as error:
        raise StartError(
            f"{path}: {error}, expected the addresses of a running Wherry; "
            "start again with wherry up"
        ) from error
    if not isinstance(noted, dict):
        raise StartError(f"{path}: found no JSON object, expected addresses by name")
    return {str(part): str(address) for part, address in noted.items()}


def consumers(folder: Path) -> list[str] | None:
    """Return the consumers of the Wherry that runs here; None when none does or it is not known."""
    try:
        return list(json.loads((folder / _CONSUMERS).read_text()))
    except (OSError, ValueError):
        return None


def note_consumers(folder: Path, names: Iterable[str]) -> None:
    """Note the consumers of the configuration in force, for `consumers`."""
    staged = folder / f".{_CONSUMERS}.{os.getpid()}"
    staged.write_text(json.dumps(sorted(names)))
    staged.replace(folder / _CONSUMERS)


def write_addresses(folder: Path, parts: Mapping[str, str]) -> None:
    """Note where the parts listen, as one change."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{_FILE}.{os.getpid()}"
    staged.write_text(json.dumps(dict(parts)) + "\n")
    staged.replace(folder / _FILE)


@contextmanager
def noted(folder: Path, parts: Mapping[str, str]) -> Iterator[None]:
    """Note where some parts listen, beside those that are noted, until the block ends."""
    write_addresses(folder, {**_noted(folder), **parts})
    try:
        yield
    finally:
        left = {name: where for name, where in _noted(folder).items() if name not in parts}
        if left:
            write_addresses(folder, left)
        else:
            forget_addresses(folder)


def _noted(folder: Path) -> Mapping[str, str]:
    try:
        return addresses(folder)
    except StartError:
        return {}


def forget_addresses(folder: Path) -> None:
    """Remove the note, if there is one."""
    (folder / _FILE).unlink(missing_ok=True)
