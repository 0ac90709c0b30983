"""Istio's four kinds of string patterns."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patterns:
    """A set of ``exact``, ``prefix*``, ``*suffix`` and ``*``; any of them will do.

    Attributes:
        anything: Whether ``*`` is among them.
    """

    exact: frozenset[str]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    anything: bool

    @classmethod
    def of(cls, texts: Collection[str]) -> "Patterns":
        """Read patterns as they are written in a policy."""
        exact, prefixes, suffixes = set(), [], []
        for text in texts:
            if text == "*":
                continue
            if text.endswith("*"):
                prefixes.append(text[:-1])
            elif text.startswith("*"):
                suffixes.append(text[1:])
            else:
                exact.add(text)
        return cls(frozenset(exact), tuple(prefixes), tuple(suffixes), "*" in texts)

    def match(self, value: str) -> bool:
        """Return whether ``value`` is one of the set; letters' case counts."""
        return (
            self.anything
            or value in self.exact
            or value.startswith(self.prefixes)
            or value.endswith(self.suffixes)
        )
