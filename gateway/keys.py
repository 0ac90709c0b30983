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
from typing import NewType
from zlib import crc32

from wherry.errors import WherryError

Prefix = NewType("Prefix", str)
"""The public part that names a key; eight letters and digits."""

FOLDER = "apikey/"
"""Where the Store keeps key records; each key's is ``apikey/PREFIX``."""

_FORM = re.compile(r"(wh_([a-z2-7]{8})_[a-z2-7]{32})_([0-9a-f]{8})", re.ASCII)
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
    """

    prefix: Prefix
    consumer: str
    digest: bytes
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None

    def accepted_at(self, now_ns: int) -> bool:
        """Return whether the key is neither revoked nor expired at ``now_ns`` (Unix)."""
        return self.revoked_ns is None and (self.expires_ns is None or now_ns < self.expires_ns)

    def encode(self) -> bytes:
        """Return the record's body."""
        return json.dumps(
            {
                "consumer": self.consumer,
                "digest": self.digest.hex(),
                "created_ns": self.created_ns,
                "expires_ns": self.expires_ns,
                "revoked_ns": self.revoked_ns,
            }
        ).encode()

    @classmethod
    def decode(cls, key: str, body: bytes) -> "Key":
        """Read the record ``key``.

        Raises:
            BadRecord: It is not what `encode` writes.
        """
        prefix = key.removeprefix(FOLDER)
        try:
            read = json.loads(body)
            found = cls(
                Prefix(prefix),
                str(read["consumer"]),
                bytes.fromhex(read["digest"]),
                int(read["created_ns"]),
                None if read["expires_ns"] is None else int(read["expires_ns"]),
                None if read["revoked_ns"] is None else int(read["revoked_ns"]),
            )
        except (ValueError, KeyError, TypeError):
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


def digest(pepper: bytes, text: str) -> bytes:
    """Return what is stored of the key ``text``: HMAC-SHA256 under ``pepper``.

    Source: RFC 2104
    """
    return hmac.digest(pepper, text.encode(), "sha256")


def same(one: bytes, other: bytes) -> bool:
    """Compare two digests in a time that tells nothing about where they differ."""
    return hmac.compare_digest(one, other)


def _letters(raw: bytes) -> str:
    return b32encode(raw).decode().rstrip("=").lower()


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"
