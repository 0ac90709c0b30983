"""Passwords as they are kept: by scrypt, each with a salt of its own."""

import hashlib
import hmac
import re
from dataclasses import dataclass

MIN_PASSWORD = 12
"""Fewest characters in a password."""

MAX_PASSWORD = 256
"""Most characters in a password."""

SALT_BYTES = 16

_COST, _BLOCK, _LANES, _LENGTH = 1 << 15, 8, 3, 32
_LINE = re.compile(
    r"scrypt\$(\d{1,9})\$(\d{1,9})\$(\d{1,9})\$((?:[0-9a-f]{2})+)\$([0-9a-f]{64})", re.ASCII
)
_MAX_COST, _MAX_BLOCK, _MAX_LANES = 1 << 18, 16, 16


@dataclass(frozen=True, slots=True)
class Hashed:
    """What is kept of a password.

    Attributes:
        cost: scrypt's N.
        block: scrypt's r.
        lanes: scrypt's p.
        salt: Random bytes.
        digest: scrypt's answer.
    """

    cost: int
    block: int
    lanes: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str, salt: bytes) -> "Hashed":
        """Return what is kept of ``password``; takes some tenths of a second and 32 MiB.

        Source: RFC 7914
        """
        digest = _scrypt(password, salt, (_COST, _BLOCK, _LANES))
        return cls(_COST, _BLOCK, _LANES, salt, digest)

    def accepts(self, password: str) -> bool:
        """Return whether ``password`` is the one; the time taken does not tell how near it is."""
        found = _scrypt(password, self.salt, (self.cost, self.block, self.lanes))
        return hmac.compare_digest(found, self.digest)

    def text(self) -> str:
        """Return it as one line."""
        numbers = f"{self.cost}${self.block}${self.lanes}"
        return f"scrypt${numbers}${self.salt.hex()}${self.digest.hex()}"

    @classmethod
    def read(cls, line: str) -> "Hashed":
        """Read what `text` wrote.

        Raises:
            ValueError: It is something else, or asks for more work than we ever do.
        """
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError("password record: another form, expected scrypt$N$r$p$SALT$DIGEST")
        cost, block, lanes = (int(each) for each in found.groups()[:3])
        if not (1 < cost <= _MAX_COST and 0 < block <= _MAX_BLOCK and 0 < lanes <= _MAX_LANES):
            raise ValueError(
                f"password record: N {cost}, r {block}, p {lanes}, expected at most "
                f"{_MAX_COST}, {_MAX_BLOCK}, {_MAX_LANES}"
            )
        return cls(cost, block, lanes, bytes.fromhex(found[4]), bytes.fromhex(found[5]))


NOBODY = Hashed(_COST, _BLOCK, _LANES, bytes(SALT_BYTES), bytes(_LENGTH))
"""Accepts nothing, in the time that a real one takes."""


def _scrypt(password: str, salt: bytes, work: tuple[int, int, int]) -> bytes:
    cost, block, lanes = work
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=lanes, maxmem=1 << 27, dklen=_LENGTH
    )
