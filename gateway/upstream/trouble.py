"""What can go wrong between the gateway and an upstream."""

from wherry.errors import WherryError


class UpstreamError(WherryError):
    """An upstream gave no answer that can be used."""


class NoConnection(UpstreamError):
    """The upstream cannot be reached; nothing was sent."""


class BrokenOff(UpstreamError):
    """The connection ended before the answer was whole.

    Attributes:
        silent: Not a byte of an answer had come.
    """

    def __init__(self, place: str, *, silent: bool) -> None:
        found = "closed without an answer" if silent else "closed in the middle of an answer"
        super().__init__(f"upstream {place}: {found}, expected a whole one")
        self.silent = silent


class NoHttp(UpstreamError):
    """What came is no HTTP answer, or is over a limit."""

    def __init__(self, place: str, found: str, expected: str = "an HTTP/1.1 answer") -> None:
        super().__init__(f"upstream {place}: {found}, expected {expected}")


class Late(UpstreamError):
    """The upstream took longer than it may."""

    def __init__(self, place: str, seconds: float) -> None:
        super().__init__(f"upstream {place}: silent for {seconds:g} s, expected an answer")
