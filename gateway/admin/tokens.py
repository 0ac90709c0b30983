"""Tokens of operators: what one looks like, what is kept of it, and who has which role.

A token reads ``wha_NAME_SECRET_CHECKSUM``. The name is said in the audit log, the secret holds
160 random bits, and the checksum lets a typing error be refused without a look-up. Only a keyed
hash of the whole is stored.
"""

import hmac
import json
import re
import secrets
from base64 import b32encode
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from gateway.admin.endpoint import Role
from gateway.days import to_the_second
from wherry.errors import WherryError
from wherry.model.resource import is_name
from wherry.store import Conflict, Store

FOLDER = "admin/token/"
"""Where the Store keeps token records; each one's is ``admin/token/NAME``."""

MAX_NAME = 63
MAX_TOKENS = 1000
"""Most tokens that there may be."""

_FORM = re.compile(r"(wha_([a-z0-9.-]{1,63})_[a-z2-7]{32})_([0-9a-f]{8})", re.ASCII)
_NOBODY = bytes(32)
_SALT = b"admin-token:"


class BadName(WherryError):
    """A token cannot be named so."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"token name {name[:MAX_NAME]!r}: expected 1 to {MAX_NAME} of a-z, 0-9, '-' and '.'"
        )
        self.name = name


class NameTaken(WherryError):
    """There is a token of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"token {name!r}: exists, expected a new name, or to revoke it before")
        self.name = name


class NoSuchToken(WherryError):
    """There is no token of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"token {name[:MAX_NAME]!r}: not found, expected one that is listed")
        self.name = name


class LastOwner(WherryError):
    """Nobody could make tokens any more."""

    def __init__(self, name: str) -> None:
        super().__init__(f"token {name!r}: the last of an owner, expected another owner to stay")
        self.name = name


class TooMany(WherryError):
    """There are `MAX_TOKENS`."""

    def __init__(self) -> None:
        super().__init__(f"tokens: {MAX_TOKENS} exist, expected fewer; revoke one")


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        name: Of it, and of who uses it in the audit log.
        role: What it may do.
        digest: Of the whole token, under the pepper.
        created_ns: Unix nanoseconds.
        expires_ns: Unix nanoseconds when it stops being accepted; None is never.
    """

    name: str
    role: Role
    digest: bytes
    created_ns: int
    expires_ns: int | None = None

    def accepted_at(self, now_ns: int) -> bool:
        """Return whether it has not expired at ``now_ns`` (Unix)."""
        return self.expires_ns is None or now_ns < self.expires_ns

    def encode(self) -> bytes:
        """Return the record's body."""
        fields = {
            "role": self.role.name.lower(),
            "digest": self.digest.hex(),
            "created_ns": self.created_ns,
            "expires_ns": self.expires_ns,
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, record: str, body: bytes) -> "Token":
        """Read the record ``record``.

        Raises:
            ValueError: It is not what `encode` writes.
        """
        try:
            read = json.loads(body)
            return cls(
                record.removeprefix(FOLDER),
                Role[str(read["role"]).upper()],
                bytes.fromhex(read["digest"]),
                int(read["created_ns"]),
                None if read["expires_ns"] is None else int(read["expires_ns"]),
            )
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"record {record!r}: expected the JSON of a token") from None


def shown(token: Token) -> dict[str, str | None]:
    """Return what may be read of a token, as JSON."""
    return {
        "name": token.name,
        "role": token.role.name.lower(),
        "created": to_the_second(token.created_ns),
        "expires": None if token.expires_ns is None else to_the_second(token.expires_ns),
    }


async def create(
    store: Store,
    pepper: bytes,
    name: str,
    role: Role,
    *,
    now_ns: int,
    expires_ns: int | None = None,
) -> tuple[Token, str]:
    """Make a token; return its record and its text, which is kept nowhere.

    Raises:
        BadName: It cannot be named so.
        NameTaken: There is one of that name.
        TooMany: There are `MAX_TOKENS`.
    """
    if not is_name(name) or len(name) > MAX_NAME:
        raise BadName(name)
    if len(await store.list(FOLDER)) >= MAX_TOKENS:
        raise TooMany
    body = f"wha_{name}_{b32encode(secrets.token_bytes(20)).decode().lower()}"
    text = f"{body}_{_checksum(body)}"
    token = Token(name, role, _digest(pepper, text), now_ns, expires_ns)
    try:
        await store.put(FOLDER + name, token.encode(), expect=0)
    except Conflict:
        raise NameTaken(name) from None
    return token, text


async def revoke(store: Store, name: str) -> Token:
    """Stop accepting a token at once; its name is free then.

    Raises:
        NoSuchToken: There is none.
        LastOwner: It is the only one of an owner that does not expire.
    """
    tokens = {token.name: token for token in await listed(store)}
    gone = tokens.pop(name, None)
    if gone is None:
        raise NoSuchToken(name)
    if gone.role is Role.OWNER and not any(
        other.role is Role.OWNER and other.expires_ns is None for other in tokens.values()
    ):
        raise LastOwner(name)
    await store.delete(FOLDER + name)
    return gone


async def listed(store: Store) -> Sequence[Token]:
    """Return every token by name."""
    records = await store.list(FOLDER)
    return [Token.decode(key, records[key].body) for key in sorted(records)]


async def bearer(store: Store, pepper: bytes, text: str, *, now_ns: int) -> Token | None:
    """Return the accepted token that ``text`` is; None for any other text, whatever is wrong."""
    form = _FORM.fullmatch(text)
    if form is None or _checksum(form[1]) != form[3]:
        return None
    record = await store.get(FOLDER + form[2])
    token = None if record is None else Token.decode(record.key, record.body)
    right = hmac.compare_digest(_digest(pepper, text), token.digest if token else _NOBODY)
    return token if token and right and token.accepted_at(now_ns) else None


def _digest(pepper: bytes, text: str) -> bytes:
    return hmac.digest(pepper, _SALT + text.encode(), "sha256")


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"
