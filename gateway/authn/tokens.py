"""Signed tokens as values: taken apart, and held against keys and time.

Source: RFC 7515, RFC 7519, RFC 8725
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.traffic.json import loads

MAX_TOKEN = 8192
"""Most characters of a token."""

_PARTS = 3
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})


@dataclass(frozen=True, slots=True)
class Opened:
    """A token that was taken apart; nothing in it is to be believed yet.

    Attributes:
        header: Its first part.
        claims: Its second part.
        signed: The bytes that are signed.
        signature: Over them.
    """

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        """What it says it is signed by, or an empty text."""
        found = self.header.get("alg")
        return found if isinstance(found, str) else ""

    @property
    def key(self) -> str | None:
        """Which key it says it is signed with, or None."""
        found = self.header.get("kid")
        return found if isinstance(found, str) else None

    @property
    def issuer(self) -> str | None:
        """Who it says it is from, or None."""
        found = self.claims.get("iss")
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Expected:
    """What the claims of a token must say.

    Attributes:
        issuer: Its ``iss``.
        audiences: Any of which ``aud`` must hold; none given is not looked at.
        leeway: Seconds by which clocks may differ.
    """

    issuer: str
    audiences: frozenset[str] = frozenset()
    leeway: float = 0.0


def opened(text: str) -> Opened | None:
    """Return the parts of a compact signed token; None for any other text.

    Refused are also an unsigned token, one with ``crit`` or an unknown ``typ``, and JSON in
    which a name stands twice.
    """
    parts = text.split(".")
    if len(text) > MAX_TOKEN or len(parts) != _PARTS or not text.isascii():
        return None
    try:
        header, claims = (read_object(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
    except ValueError:
        return None
    kind = header.get("typ", "JWT")
    if "crit" in header or not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    if not signature:
        return None
    return Opened(header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def fault(claims: Mapping[str, Any], expected: Expected, now: float) -> str | None:
    """Return what is wrong with verified ``claims`` at ``now`` (Unix seconds); None: nothing.

    A token without ``exp`` is refused: it would count for ever.

    Source: RFC 7519 section 4.1
    """
    if claims.get("iss") != expected.issuer:
        return "The token is of another issuer."
    if expected.audiences and not expected.audiences & _audiences(claims.get("aud")):
        return "The token is for another audience."
    ends = _time(claims.get("exp"))
    begins, made = _time(claims.get("nbf", 0)), _time(claims.get("iat", 0))
    if ends is None or begins is None or made is None:
        return "The token's times are no numbers, or it has no end."
    if now >= ends + expected.leeway:
        return "The token is expired."
    if now < max(begins, made) - expected.leeway:
        return "The token does not count yet."
    return None


def scopes(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """Return what is granted in ``claim``: text with spaces, or a list of texts."""
    found = claims.get(claim)
    if isinstance(found, str):
        return frozenset(found.split(" ")) - {""}
    if isinstance(found, Sequence):
        return frozenset(each for each in found if isinstance(each, str))
    return frozenset()


def read_object(text: bytes) -> Mapping[str, Any]:
    """Read a JSON object in which no name stands twice.

    Raises:
        ValueError: It is none.
    """
    found = loads(text)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004
    return found


def _audiences(found: object) -> frozenset[str]:
    if isinstance(found, str):
        return frozenset({found})
    if isinstance(found, list):
        return frozenset(each for each in found if isinstance(each, str))
    return frozenset()


def _time(found: object) -> float | None:
    if isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < 1 << 40:
        return float(found)
    return None


def _decoded(part: str) -> bytes:
    if "=" in part or "+" in part or "/" in part:
        raise ValueError("no base64url")
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
