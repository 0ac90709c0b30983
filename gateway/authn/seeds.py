"""The file of the keys that sign our tokens."""

import json
import secrets
from pathlib import Path

from gateway.pepper import kept, replaced
from wherry.errors import StartError

SIGNING_KEYS = "signing-keys.json"
"""Name of the file, beside the pepper."""

MOST = 2
"""Most keys in the file: the one that signs, and the one that did before it."""

_SEED = 32


def seeds(path: Path) -> list[bytes]:
    """Return the private keys in ``path``, made at first use, the signing one first.

    Raises:
        StartError: The file cannot be made or read, others may read it, or it holds no keys.
    """
    read = kept("signing keys", path, lambda: _written([secrets.token_bytes(_SEED)]))
    try:
        found = [bytes.fromhex(each) for each in json.loads(read)["ed25519"]]
    except (ValueError, KeyError, TypeError):
        found = []
    if not 0 < len(found) <= MOST or any(len(each) != _SEED for each in found):
        raise StartError(
            f"signing keys {path}: unreadable, expected 1 to {MOST} Ed25519 keys; "
            "restore it, or remove it and let every client ask for a new token"
        )
    return found


def renewed(path: Path) -> None:
    """Sign with a new key from now on; tokens of the key before still count, older ones do not.

    Raises:
        StartError: The file cannot be used.
    """
    replaced(path, _written([secrets.token_bytes(_SEED), *seeds(path)][:MOST]))


def _written(found: list[bytes]) -> bytes:
    return json.dumps({"ed25519": [each.hex() for each in found]}).encode()
