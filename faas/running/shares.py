"""How many calls may run at once: account, reserved and provisioned concurrency. Pure."""

from collections import Counter
from collections.abc import Mapping

RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT = "ConcurrentInvocationLimitExceeded"

Version = tuple[str, str]
"""A function's name and a version of it."""


class Shares:
    """Counts the calls in flight and says which may begin.

    A version claims what it runs, or what is provisioned for it when that is more. A function
    with reserved concurrency has that much of the account for itself, and no more; the others
    share the rest.

    Args:
        account: Most calls at once of all functions together.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """

    def __init__(self, account: int) -> None:
        self._account = account
        self._running: Counter[Version] = Counter()
        self._provisioned: dict[Version, int] = {}
        self._reserved: dict[str, int] = {}
        self._claimed: Counter[str] = Counter()
        self._unreserved = 0

    @property
    def account(self) -> int:
        """Most calls at once of all functions together."""
        return self._account

    @property
    def reserved(self) -> Mapping[str, int]:
        """What functions have for themselves."""
        return self._reserved

    @property
    def running(self) -> Mapping[Version, int]:
        """Calls in flight, those that wait for an instance included."""
        return self._running

    def begin(self, version: Version) -> str | None:
        """Count a call in and return None, or return why it may not begin, in Lambda's words."""
        if self._running[version] >= self._provisioned.get(version, 0):
            name = version[0]
            share = self._reserved.get(name)
            if share is not None:
                if self._claimed[name] >= share:
                    return RESERVED
            elif self._unreserved >= self._account - sum(self._reserved.values()):
                return ACCOUNT
            self._claim(name, 1)
        self._running[version] += 1
        return None

    def end(self, version: Version) -> None:
        """Count a call out that `begin` let in."""
        self._running[version] -= 1
        if self._running[version] >= self._provisioned.get(version, 0):
            self._claim(version[0], -1)
        if not self._running[version]:
            del self._running[version]

    def spilled(self, version: Version) -> bool:
        """Return whether more calls run than were provisioned for, where some were."""
        provisioned = self._provisioned.get(version, 0)
        return 0 < provisioned < self._running[version]

    def reserve(self, name: str, count: int | None) -> None:
        """Give function ``name`` ``count`` (>= 0) calls at once for itself; None: no longer."""
        claimed = self._claimed[name]
        if name not in self._reserved:
            self._unreserved -= claimed
        if count is None:
            self._reserved.pop(name, None)
            self._unreserved += claimed
        else:
            self._reserved[name] = count

    def provision(self, version: Version, count: int) -> None:
        """Hold ``count`` (>= 0) of the function's or the account's concurrency for a version."""
        before = self._of(version)
        if count:
            self._provisioned[version] = count
        else:
            self._provisioned.pop(version, None)
        self._claim(version[0], self._of(version) - before)

    def _of(self, version: Version) -> int:
        return max(self._running[version], self._provisioned.get(version, 0))

    def _claim(self, name: str, count: int) -> None:
        self._claimed[name] += count
        if name not in self._reserved:
            self._unreserved += count
        if not self._claimed[name]:
            del self._claimed[name]
