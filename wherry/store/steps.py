"""Steps of levels and claims to shares: what stores do for counts that are shared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advance:
    """A step of a level: a counter that has a floor, a ceiling and an end.

    Attributes:
        level: Name of the level; apart from the names of `Store.add`.
        n: Added to the level, or to ``floor`` if that is higher; 0 reads and changes nothing.
        floor: None has none.
        most: Highest value that may come out; None has none.
        seconds: Over 0; the level is forgotten (0 again) after so long without a change.
    """

    level: str
    n: int
    floor: int | None
    most: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Advanced:
    """What came of an `Advance`.

    Attributes:
        value: The level now, or ``floor`` if that is higher.
        passed: Whether it was within ``most``; if not, nothing changed.
    """

    value: int
    passed: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """A holder's claim to a share of something countable.

    Attributes:
        name: What is shared.
        holder: Who claims.
        amount: The whole share, in place of the one before; 0 gives it back.
        most: Of all live shares together; None has none. A share that does not grow always
            passes.
        seconds: Over 0; the share ends by itself after so long.
    """

    name: str
    holder: str
    amount: int
    most: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """What came of a `Hold`.

    Attributes:
        total: Sum of all live shares now.
        passed: Whether the share is what was claimed; if not, it is as before.
    """

    total: int
    passed: bool
