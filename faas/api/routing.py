"""Which operation a request is for: by method and path, the most specific wins. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from faas.api.model import OperationModel

_LABEL = re.compile(r"\{([^{}+]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """The form of the paths of one operation."""

    operation: OperationModel
    path: re.Pattern[str]
    labels: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    rank: tuple[int, int, int]

    @classmethod
    def of(cls, operation: OperationModel) -> "Route":
        """Return the route of an operation; a path may end in a slash that its form lacks.

        Source: https://smithy.io/2.0/spec/http-bindings.html (labels, greedy labels, query
        literals, specificity).
        """
        path, _, query = operation.uri.partition("?")
        pattern, at, literal = "", 0, 0
        labels: list[str] = []
        greedy = 0
        for label in _LABEL.finditer(path):
            fixed = path[at : label.start()]
            literal += len(fixed)
            greedy += bool(label[2])
            pattern += re.escape(fixed) + ("(.+)" if label[2] else "([^/]+)")
            labels.append(label[1])
            at = label.end()
        rest = path[at:].rstrip("/")
        pattern += re.escape(rest) + "/?"
        fixed_query = tuple(parse_qsl(query, keep_blank_values=True))
        rank = (len(fixed_query), literal + len(rest), -greedy)
        return cls(operation, re.compile(pattern), tuple(labels), fixed_query, rank)


@dataclass(frozen=True, slots=True)
class Routed:
    """A request's operation, and the labels of its path, unquoted, by their names there."""

    operation: OperationModel
    labels: Mapping[str, str]


class Router:
    """Finds the operation of a request."""

    def __init__(self, operations: Iterable[OperationModel]) -> None:
        routes = sorted(map(Route.of, operations), key=lambda route: route.rank, reverse=True)
        self._routes: dict[str, list[Route]] = {}
        for route in routes:
            self._routes.setdefault(route.operation.method, []).append(route)

    def find(self, method: str, path: str, query: Sequence[tuple[str, str]]) -> Routed | None:
        """Return the operation, or None when the service has no such path.

        Args:
            method: In capitals.
            path: Percent-encoded as it came, without the query.
            query: Names and values, decoded.
        """
        for route in self._routes.get(method, ()):
            match = route.path.fullmatch(path)
            if match is not None and all(pair in query for pair in route.query):
                values = map(unquote, match.groups())
                return Routed(route.operation, dict(zip(route.labels, values, strict=True)))
        return None
