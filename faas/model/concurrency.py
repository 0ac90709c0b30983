"""How many instances a function is promised. Pure."""

from dataclasses import dataclass

RESERVED = "function-concurrency/"
"""Records ``function-concurrency/FUNCTION``."""
PROVISIONED = "function-provisioned/"
"""Records ``function-provisioned/FUNCTION/QUALIFIER``."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What one function may use, and no other: at most, and at least, ``count`` instances."""

    function: str
    count: int


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Instances that are kept ready for a version or an alias.

    Attributes:
        qualifier: A version's number or an alias.
        count: At least 1.
        modified: As Lambda formats it.
    """

    function: str
    qualifier: str
    count: int
    modified: str
