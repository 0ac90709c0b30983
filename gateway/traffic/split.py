"""Which of several upstreams a caller gets, and stays with."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from gateway.call import Fields
from wherry.model.product import Weighted

_SPACE = 1 << 64


@dataclass(frozen=True, slots=True)
class Split:
    """Upstreams by weight, ready to choose from.

    Attributes:
        salt: Makes two splits choose apart from each other.
        bounds: Where each upstream's share of the space of hashes ends.
        headers: Field, its value and the upstream it leads to.
    """

    salt: bytes
    bounds: tuple[int, ...]
    headers: tuple[tuple[str, str, int], ...]

    @classmethod
    def of(cls, upstreams: Sequence[Weighted], salt: str = "") -> "Split":
        """Prepare ``upstreams``, of which at least one has a weight over 0.

        Args:
            upstreams: What to choose from.
            salt: Name of the route, so that the same callers are not first everywhere.
        """
        total = sum(each.weight for each in upstreams)
        ends = accumulate(each.weight for each in upstreams)
        overrides = tuple(
            (*each.header, place) for place, each in enumerate(upstreams) if each.header
        )
        return cls(salt.encode(), tuple(_SPACE * end // total for end in ends), overrides)

    def choose(self, who: str, headers: Fields) -> int:
        """Return the place of the upstream for a caller.

        The same caller gets the same one as long as the weights stay. When weights move towards
        one end of the list, callers move that way only.

        Args:
            who: Names the caller: consumer and app, or the address of a stranger.
            headers: Of the request; a field that an upstream asks for beats the weights.
        """
        for name, value, place in self.headers:
            if headers.get(name) == value:
                return place
        digest = blake2b(who.encode(errors="surrogatepass"), digest_size=8, key=self.salt[:64])
        return bisect_right(self.bounds, int.from_bytes(digest.digest()))


def copied(percent: int, dice: float) -> bool:
    """Return whether a mirror gets this request.

    Args:
        percent: Of the requests, 1 to 100.
        dice: At random from 0 to 1, without 1.
    """
    return dice * 100 < percent
