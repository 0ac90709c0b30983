"""Whether a function may go on in a circle of events that comes back to it. Pure."""

from dataclasses import dataclass
from typing import Literal

PREFIX = "function-recursion/"
"""Records ``function-recursion/FUNCTION``; without one, circles end."""


@dataclass(frozen=True, slots=True)
class Recursion:
    """Lambda's RecursiveLoop.

    Attributes:
        loop: ``Terminate``: after 16 rounds the event is given up; ``Allow``: never for this.
    """

    function: str
    loop: Literal["Allow", "Terminate"] = "Terminate"
