"""How often somebody may fail to sign in before they have to wait."""

from collections import OrderedDict

MOST_KNOWN = 100_000
"""Most names that failures are counted for; the one that failed longest ago is forgotten."""


class Attempts:
    """Failures by name, each forgotten a window after the first of them.

    Args:
        most: Failures in a window; then the name waits until it ends.
        seconds: Length of a window.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Return the seconds until ``name`` may try; 0 is now."""
        began, count = self._failed.get(name, (now, 0))
        left = began + self._seconds - now
        return left if count >= self._most and left > 0 else 0.0

    def failed(self, name: str, now: float) -> None:
        """Count a failure, before it is known to be one when trying takes long."""
        began, count = self._failed.pop(name, (now, 0))
        if now >= began + self._seconds:
            began, count = now, 0
        self._failed[name] = began, count + 1
        while len(self._failed) > MOST_KNOWN:
            self._failed.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the failures of ``name``."""
        self._failed.pop(name, None)

    def forgiven(self, name: str) -> None:
        """Take one failure of ``name`` back."""
        began, count = self._failed.get(name, (0.0, 0))
        if count:
            self._failed[name] = began, count - 1


class SignIns:
    """Failed sign-ins, counted three ways.

    From one address to one account ``most`` may fail; five times as many from an address, which
    many may share; ten times as many to an account, so that others can hardly lock its owner out.

    Args:
        most: Failures in a window.
        seconds: Length of a window.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._both = Attempts(most, seconds)
        self._address = Attempts(most * 5, seconds)
        self._account = Attempts(most * 10, seconds)

    def wait(self, account: str, address: str, now: float) -> float:
        """Return the seconds until somebody at ``address`` may try; 0 is now."""
        return max(
            self._both.wait(f"{account} {address}", now),
            self._address.wait(address, now),
            self._account.wait(account, now),
        )

    def failed(self, account: str, address: str, now: float) -> None:
        """Count a failure; count it before it is known, for looking takes long."""
        self._both.failed(f"{account} {address}", now)
        self._address.failed(address, now)
        self._account.failed(account, now)

    def succeeded(self, account: str, address: str) -> None:
        """Take back what was counted; an address keeps what it failed with other accounts."""
        self._both.succeeded(f"{account} {address}")
        self._address.forgiven(address)
        self._account.forgiven(account)
