"""API keys as values: what a key looks like, and what is kept of it.

A key reads ``wh_PREFIX_SECRET_CHECKSUM``. The prefix names it in lists and logs, the secret
holds 160 random bits, and the checksum lets a typing error be refused without a look-up.
Only a keyed hash of the whole is ever stored.
"""

import hmac
import json
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, NewType
from zlib import crc32

from wherry.errors import WherryError

Prefix = NewType("Prefix", str)
"""The public part that names a key; eight letters and digits."""

FOLDER = "apikey/"
"""Where the Store keeps key records; each key's is ``apikey/PREFIX``."""

DEFAULT_APP = "default"
"""The app that every consumer has."""

State = Literal["active", "revoked", "expired"]
"""What became of a key."""

_FORM = re.compile(r"(wh_([a-z2-7]{8})_[a-z2-7]{32})_([0-9a-f]{8})", re.ASCII)
_BLOCK = 64
"""Bytes of a block of SHA-256."""

_PREFIX = re.compile(r"[a-z2-7]{8}", re.ASCII)


class BadRecord(WherryError):
    """A stored key record is not one."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key record {key!r}: unreadable, expected the JSON of a key")
        self.key = key


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key.

    Attributes:
        prefix: Its public name.
        consumer: Whose it is.
        digest: `digest` of the whole key.
        created_ns: Unix nanoseconds when it was made.
        expires_ns: Unix nanoseconds when it stops being accepted; None is never.
        revoked_ns: Unix nanoseconds when it was revoked; None is not.
        app: Of the consumer; ``default`` is the one that every consumer has.
        scopes: What it is granted; None is everything that the app may have.
        environment: The only one it counts in; None is every one.
        title: Whatever its owner calls it.
    """

    prefix: Prefix
    consumer: str
    digest: bytes
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None
    app: str = DEFAULT_APP
    scopes: frozenset[str] | None = None
    environment: str | None = None
    title: str = ""

    def accepted_at(self, now_ns: int) -> bool:
        """Return whether the key is neither revoked nor expired at ``now_ns`` (Unix)."""
        return self.revoked_ns is None and (self.expires_ns is None or now_ns < self.expires_ns)

    def state_at(self, now_ns: int) -> State:
        """Return what became of the key by ``now_ns`` (Unix)."""
        if self.revoked_ns is not None:
            return "revoked"
        return "active" if self.accepted_at(now_ns) else "expired"

    def encode(self) -> bytes:
        """Return the record's body."""
        return json.dumps(
            {
                "consumer": self.consumer,
                "digest": self.digest.hex(),
                "created_ns": self.created_ns,
                "expires_ns": self.expires_ns,
                "revoked_ns": self.revoked_ns,
                "app": self.app,
                "scopes": None if self.scopes is None else sorted(self.scopes),
                "environment": self.environment,
                "title": self.title,
            }
        ).encode()

    @classmethod
    def decode(cls, key: str, body: bytes) -> "Key":
        """Read the record ``key``; one of a version that knew no apps is of the default app.

        Raises:
            BadRecord: It is not what `encode` writes.
        """
        prefix = key.removeprefix(FOLDER)
        try:
            read = json.loads(body)
            scopes = read.get("scopes")
            found = cls(
                Prefix(prefix),
                str(read["consumer"]),
                bytes.fromhex(read["digest"]),
                int(read["created_ns"]),
                None if read["expires_ns"] is None else int(read["expires_ns"]),
                None if read["revoked_ns"] is None else int(read["revoked_ns"]),
                str(read.get("app", DEFAULT_APP)),
                None if scopes is None else frozenset(map(str, scopes)),
                None if read.get("environment") is None else str(read["environment"]),
                str(read.get("title", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadRecord(key) from None
        if not _PREFIX.fullmatch(prefix):
            raise BadRecord(key)
        return found


def minted() -> tuple[Prefix, str]:
    """Return a new key: its prefix, and the text that its owner gets once."""
    prefix, secret = _letters(secrets.token_bytes(5)), _letters(secrets.token_bytes(20))
    body = f"wh_{prefix}_{secret}"
    return Prefix(prefix), f"{body}_{_checksum(body)}"


def prefix_of(text: str) -> Prefix | None:
    """Return the prefix of a well-formed key, or None for any other text."""
    form = _FORM.fullmatch(text)
    if form is None or _checksum(form[1]) != form[3]:
        return None
    return Prefix(form[2])


def prefix_form(text: str) -> bool:
    """Return whether ``text`` could be a key's prefix."""
    return _PREFIX.fullmatch(text) is not None


def digest(pepper: bytes, text: str) -> bytes:
    """Return what is stored of the key ``text``: HMAC-SHA256 under ``pepper``.

    Source: RFC 2104
    """
    return hmac.digest(pepper, text.encode(), "sha256")


class Digester:
    """Makes the `digest` of many keys under one pepper, in a third of the time."""

    def __init__(self, pepper: bytes) -> None:
        short = pepper if len(pepper) <= _BLOCK else sha256(pepper).digest()
        key = short.ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in key))

    def digest(self, text: str) -> bytes:
        """See `gateway.keys.digest`.

        Source: RFC 2104 section 4
        """
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.digest()


def signing_secret(pepper: bytes, prefix: Prefix) -> str:
    """Return the secret with which the owner of the key ``prefix`` signs requests.

    It is derived, so nothing that works as a secret is stored, and nobody who only knows the
    key can tell it.
    """
    return _letters(hmac.digest(pepper, b"signing:" + prefix.encode(), "sha256"))


def same(one: bytes, other: bytes) -> bool:
    """Compare two digests in a time that tells nothing about where they differ."""
    return hmac.compare_digest(one, other)


def _letters(raw: bytes) -> str:
    return b32encode(raw).decode().rstrip("=").lower()


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"
