"""Policies that cannot be made ready."""

from wherry.errors import WherryError


class WrongPolicy(WherryError):
    """A traffic policy cannot be used; who compiles it adds the product's name and place.

    Attributes:
        found: What stands there.
        expected: What could stand there.
    """

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"{found}, expected {expected}")
        self.found, self.expected = found, expected
