"""Routes by host and path: a tree for each host that is named, and one for all others."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from multidict import CIMultiDict

from gateway.call import Fields
from gateway.catalogue.route import Route
from gateway.catalogue.template import VARIABLE
from gateway.path import Path

NO_FIELDS: Fields = CIMultiDict()


@dataclass(frozen=True, slots=True)
class WrongMethod:
    """The path is some product's, but not with this method.

    Attributes:
        route: The closest route.
        allowed: Methods that the path takes, sorted.
    """

    route: Route
    allowed: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    variable: "_Node | None" = None
    ends: list[Route] = field(default_factory=list)
    rests: list[Route] = field(default_factory=list)

    def child(self, segment: str) -> "_Node":
        if not VARIABLE.fullmatch(segment):
            return self.literals.setdefault(segment, _Node())
        self.variable = self.variable or _Node()
        return self.variable


class Table:
    """Every route of one World.

    A host by its name beats a wildcard, a longer wildcard a shorter one, and all of these the
    routes that name no host. Then a literal segment beats a variable and a variable beats a
    rest, from the left; then more headers beat fewer. A route that takes the method beats one
    that does not.
    """

    def __init__(self) -> None:
        self._anywhere = _Node()
        self._hosts: dict[str, _Node] = {}
        self._elsewhere: dict[str, set[str]] = {}
        self._wildcards = False

    def add(self, route: Route, hosts: tuple[str, ...]) -> list[str]:
        """Add ``route``, for ``hosts`` or, when there are none, for all that its product has not.

        Returns:
            What other products have of it already, as ``PRODUCT METHOD PATH``.
        """
        if not hosts:
            return _added(self._anywhere, route)
        found: list[str] = []
        for host in hosts:
            self._wildcards = self._wildcards or host.startswith("*.")
            found += _added(self._hosts.setdefault(host, _Node()), route)
            self._elsewhere.setdefault(host, set()).add(route.product)
        return found

    def match(
        self, method: str, path: Path, host: str = "", headers: Fields = NO_FIELDS
    ) -> Route | WrongMethod | None:
        """Return the route for a request, or why there is none; None: no product has the path."""
        first: Route | None = None
        allowed: set[str] = set()
        for route in self._candidates(path.segments, host):
            if route.headers and not route.fits(headers):
                continue
            if not route.methods or method in route.methods:
                return route
            first = first or route
            allowed |= route.methods
        return WrongMethod(first, tuple(sorted(allowed))) if first else None

    def _candidates(self, segments: tuple[str, ...], host: str) -> Iterator[Route]:
        if not self._hosts:
            yield from _fitting(self._anywhere, segments, 0)
            return
        taken: set[str] = set()
        for name in self._names(host):
            for route in _fitting(self._hosts[name], segments, 0):
                if route.product not in taken:
                    yield route
            taken |= self._elsewhere[name]
        for route in _fitting(self._anywhere, segments, 0):
            if route.product not in taken:
                yield route

    def _names(self, host: str) -> Iterator[str]:
        """Yield the names that ``host`` goes by, closest first."""
        if host in self._hosts:
            yield host
        if self._wildcards:
            _, dot, rest = host.partition(".")
            while dot:
                if (name := "*." + rest) in self._hosts:
                    yield name
                _, dot, rest = rest.partition(".")


def _added(root: _Node, route: Route) -> list[str]:
    node, shape = root, route.shape
    for segment in shape.segments[: shape.rest[1]] if shape.rest else shape.segments:
        node = node.child(segment)
    routes = node.rests if shape.rest else node.ends
    shared = [
        f"{route.product} {method} {route.template}"
        for other in routes
        if other.product != route.product and other.headers == route.headers
        for method in sorted(_shared(route.methods, other.methods))
    ]
    routes.append(route)
    routes.sort(key=lambda each: -len(each.headers))
    return shared


def _shared(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    if one and other:
        return one & other
    return one or other or frozenset({"*"})


def _fitting(node: _Node, segments: tuple[str, ...], at: int) -> Iterator[Route]:
    if at == len(segments):
        yield from node.ends
        return
    literal = node.literals.get(segments[at])
    if literal is not None:
        yield from _fitting(literal, segments, at + 1)
    if segments[at]:
        if node.variable is not None:
            yield from _fitting(node.variable, segments, at + 1)
        yield from node.rests
