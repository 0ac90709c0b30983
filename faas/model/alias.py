"""An alias: a name for a version, or for two with a share each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "function-alias/"
"""Records ``function-alias/FUNCTION/ALIAS``."""


@dataclass(frozen=True, slots=True)
class Alias:
    """One alias.

    Attributes:
        function: Its function's name.
        name: 1 to 128 of ``A-Za-z0-9-_``, not a number.
        version: Where calls go that ``weights`` sends nowhere else.
        weights: Share of calls, 0 to 1, by further version; at most one.
        revision: Changes with every update.
    """

    function: str
    name: str
    version: str
    revision: str
    description: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)

    def chosen(self, draw: float) -> str:
        """Return the version for a call that drew ``draw`` (0 up to, not including, 1)."""
        for version, share in self.weights.items():
            if draw < share:
                return version
            draw -= share
        return self.version
