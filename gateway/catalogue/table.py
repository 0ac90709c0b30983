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
        search = _Search(method, path.segments, headers)
        taken: set[str] = search.taken
        for name in self._names(host) if self._hosts else ():
            found = search.below(self._hosts[name], 0)
            if found is not None:
                return found
            taken |= self._elsewhere[name]
        found = search.below(self._anywhere, 0)
        if found is not None or not search.others:
            return found
        allowed = frozenset[str]().union(*(route.methods for route in search.others))
        return WrongMethod(search.others[0], tuple(sorted(allowed)))

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


class _Search:
    """Looks for the route of one request.

    Attributes:
        taken: Products whose routes are no candidates any more.
        others: Routes that fit but for the method, closest first.
    """

    __slots__ = ("_headers", "_method", "_segments", "others", "taken")

    def __init__(self, method: str, segments: tuple[str, ...], headers: Fields) -> None:
        self._method, self._segments, self._headers = method, segments, headers
        self.taken: set[str] = set()
        self.others: list[Route] = []

    def below(self, node: _Node, at: int) -> Route | None:
        """Return the closest route at or below ``node``, which stands for ``at`` segments."""
        if at == len(self._segments):
            return self._among(node.ends)
        segment = self._segments[at]
        literal = node.literals.get(segment)
        if literal is not None and (found := self.below(literal, at + 1)) is not None:
            return found
        if not segment:
            return None
        if node.variable is not None and (found := self.below(node.variable, at + 1)) is not None:
            return found
        return self._among(node.rests)

    def _among(self, routes: list[Route]) -> Route | None:
        for route in routes:
            if route.product in self.taken or (route.headers and not route.fits(self._headers)):
                continue
            if not route.methods or self._method in route.methods:
                return route
            self.others.append(route)
        return None
