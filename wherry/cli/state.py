"""Where a running Wherry notes the addresses of its parts, and where commands find them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from wherry.errors import StartError

_FILE = "addresses.json"


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


def write_addresses(folder: Path, parts: Mapping[str, str]) -> None:
    """Note where the parts listen, as one change."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{_FILE}.{os.getpid()}"
    staged.write_text(json.dumps(dict(parts)) + "\n")
    staged.replace(folder / _FILE)


def forget_addresses(folder: Path) -> None:
    """Remove the note, if there is one."""
    (folder / _FILE).unlink(missing_ok=True)
