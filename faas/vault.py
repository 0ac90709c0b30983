"""A key in a file, and what is sealed with it: AES-256-GCM, bound to where it belongs.

A sealed value starts with its kind and the key's fingerprint, so that a value of another key can
be told from one that was tampered with.
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wherry.errors import StartError, WherryError

_KEY, _NONCE, _FINGERPRINT = 32, 12, 4
_KIND = b"\x01"
_HEAD = len(_KIND) + _FINGERPRINT + _NONCE
_MODE = 0o600


class Unsealable(WherryError):
    """A sealed value cannot be read with the key at hand.

    Attributes:
        context: Where the value belongs.
        why: What is wrong, in words that follow "because".
    """

    def __init__(self, context: str, why: str) -> None:
        super().__init__(f"sealed value of {context}: {why}, expected the key that sealed it")
        self.context, self.why = context, why


class Vault:
    """Seals small values with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._fingerprint = hashlib.sha256(b"wherry vault" + key).digest()[:_FINGERPRINT]

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """Return the vault of the key in ``path``; without that file, make both.

        Raises:
            StartError: The file holds no key, or others than its owner may read it.
        """
        try:
            _write_new(path)
        except FileExistsError:
            pass
        except OSError as error:
            raise StartError(f"vault key {path}: {error}, expected a file to make") from error
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise StartError(
                f"vault key {path}: mode {mode:04o}, expected {_MODE:04o}; "
                f"see who read it, then chmod {_MODE:o} {path}"
            )
        try:
            key = bytes.fromhex(path.read_text().strip())
        except (ValueError, OSError):
            key = b""
        if len(key) != _KEY:
            raise StartError(
                f"vault key {path}: found no key, expected {_KEY * 2} hexadecimal digits; restore "
                "it from a copy, or remove it to begin anew (what it sealed is lost then)"
            )
        return cls(key)

    def seal(self, value: bytes, context: str) -> bytes:
        """Return ``value`` sealed; only `unseal` with the same context reads it again."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._cipher.encrypt(nonce, value, context.encode())
        return _KIND + self._fingerprint + nonce + sealed

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Return what `seal` was given.

        Raises:
            Unsealable: Another key sealed it, it belongs elsewhere, or it was changed.
        """
        if len(sealed) <= _HEAD or not sealed.startswith(_KIND):
            raise Unsealable(context, "the value is no sealed one")
        fingerprint = sealed[1 : 1 + _FINGERPRINT]
        if fingerprint != self._fingerprint:
            ours = self._fingerprint.hex()
            raise Unsealable(
                context, f"the key {fingerprint.hex()} sealed it and the vault has {ours}"
            )
        try:
            nonce = sealed[1 + _FINGERPRINT : _HEAD]
            return self._cipher.decrypt(nonce, sealed[_HEAD:], context.encode())
        except InvalidTag:
            raise Unsealable(context, "the value was changed or belongs elsewhere") from None


def _write_new(path: Path) -> None:
    """Write a new key to ``path`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise FileExistsError(path)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_KEY) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(staged, path)
    finally:
        staged.unlink()
