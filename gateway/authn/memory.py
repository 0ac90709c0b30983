"""What was found out of tokens, so that the same token is not looked at twice."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from gateway.recent import Recent

MOST = 10_000
"""Most tokens that are remembered; of more the one not shown for longest is looked at anew."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What was found out of one token.

    Attributes:
        found: That.
        until: Unix seconds when it has to be found out again.
        ground: What the token was held against; once that is replaced, this is void.
    """

    found: T
    until: float
    ground: tuple[object, ...]


class Memory(Generic[T]):
    """Tokens by their digest: no token is kept."""

    def __init__(self) -> None:
        self._known: Recent[bytes, Known[T]] = Recent(MOST)

    def get(self, token: str, now: float, *ground: object) -> Known[T] | None:
        """Return what is known of ``token`` at ``now`` on the very same ``ground``, or None."""
        known = self._known.get(digest(token))
        if known is None or now >= known.until:
            return None
        same = all(one is other for one, other in zip(known.ground, ground, strict=True))
        return known if same else None

    def put(self, token: str, found: T, until: float, *ground: object) -> None:
        """Remember ``found`` until then (Unix seconds)."""
        self._known.put(digest(token), Known(found, until, ground))


def digest(token: str) -> bytes:
    """Return what stands for a token in memory."""
    return sha256(token.encode()).digest()
