"""Which proxies a request asks for.

Matchers are joined with OR, the conditions within one with AND; no matcher is everybody.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/type/matcher/v3/node.proto
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xds.node import Node, Value

TextTest = Callable[[str], bool]
"""Says whether a text is one that is asked for."""

ValueTest = Callable[[Value], bool]
"""Says the same of a value in a node's metadata; a value that is missing is never tested."""


@dataclass(frozen=True, slots=True)
class NodeMatcher:
    """Conditions on one node, all of which must hold.

    Attributes:
        node_id: On its id; None is any.
        metadata: Paths into its metadata, each with a condition on what stands there.
    """

    node_id: TextTest | None = None
    metadata: tuple[tuple[tuple[str, ...], ValueTest], ...] = ()

    def matches(self, node: Node) -> bool:
        """Return whether ``node`` is asked for."""
        if self.node_id is not None and not self.node_id(node.id):
            return False
        return all(_holds(node.metadata, path, test) for path, test in self.metadata)


def asked_for(node: Node, matchers: Sequence[NodeMatcher]) -> bool:
    """Return whether one of ``matchers`` matches ``node``, or there are none."""
    return not matchers or any(matcher.matches(node) for matcher in matchers)


def text_test(kind: str, pattern: str, *, ignore_case: bool) -> TextTest:
    """Return the test of a string matcher.

    Args:
        kind: ``exact``, ``prefix``, ``suffix`` or ``contains``.
        pattern: What to look for.
        ignore_case: Whether ASCII and other cased letters are taken as the same.
    """
    wanted = pattern.casefold() if ignore_case else pattern

    def test(text: str) -> bool:
        given = text.casefold() if ignore_case else text
        match kind:
            case "exact":
                return given == wanted
            case "prefix":
                return given.startswith(wanted)
            case "suffix":
                return given.endswith(wanted)
            case "contains":
                return wanted in given
            case _:
                raise ValueError(f"text test {kind!r}: unknown, expected exact, prefix, ...")

    return test


def _holds(metadata: Mapping[str, Value], path: Sequence[str], test: ValueTest) -> bool:
    value: Value = metadata
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return test(value)
