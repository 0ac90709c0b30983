"""The routing table of all products, compiled from a World: one value, replaced whole."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.path import Path, canonical
from gateway.problem import Refused
from gateway.ratelimit import Allowance
from wherry.errors import WherryError
from wherry.model.product import ApiProduct, ProductRoute
from wherry.model.resource import seconds
from wherry.model.world import World

RESERVED = ".wherry"
"""First segment of the gateway's own paths; no product can have it."""

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\+?)\}", re.ASCII)


class TemplateError(WherryError):
    """A product's path template cannot be used."""

    def __init__(self, product: str, template: str, found: str, expected: str) -> None:
        super().__init__(f"product {product!r} path {template!r}: {found}, expected {expected}")
        self.product, self.template = product, template


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a product, ready to use.

    Attributes:
        product: The product's name.
        template: The path as written.
        methods: That it takes; empty is all.
        function: The function it leads to, or None.
        service: The service it leads to, or None.
        rewrite: Takes the place of what the template matched before its rest; None keeps it.
        max_body_bytes: Larger requests are refused.
        timeout: Seconds that the answer may take to begin, and to go on.
        variables: Name and place of each variable among the path's segments.
        rest: Name and first place of the variable that takes the rest, or None.
    """

    product: str
    template: str
    methods: frozenset[str]
    function: str | None
    service: str | None
    rewrite: str | None
    max_body_bytes: int
    timeout: float
    variables: tuple[tuple[str, int], ...]
    rest: tuple[str, int] | None

    def parameters(self, path: Path) -> dict[str, str]:
        """Return what the variables stand for in ``path``, unescaped."""
        found = {name: path.segments[place] for name, place in self.variables}
        if self.rest:
            name, place = self.rest
            found[name] = "/".join(path.segments[place:])
        return found

    def forwarded(self, path: Path) -> str:
        """Return the path that the service sees."""
        if self.rewrite is None:
            return path.text
        if self.rest is None:
            return self.rewrite
        kept = path.text.split("/")[self.rest[1] + 1 :]
        return self.rewrite.rstrip("/") + "/" + "/".join(kept)


@dataclass(frozen=True, slots=True)
class WrongMethod:
    """The path is some product's, but not with this method.

    Attributes:
        product: The product of the closest route.
        allowed: Methods that the path takes, sorted.
    """

    product: str
    allowed: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    variable: "_Node | None" = None
    ends: list[Route] = field(default_factory=list)
    rests: list[Route] = field(default_factory=list)

    def child(self, segment: str) -> "_Node":
        if not _VARIABLE.fullmatch(segment):
            return self.literals.setdefault(segment, _Node())
        self.variable = self.variable or _Node()
        return self.variable


class Catalogue:
    """Every route and every subscription of one World.

    Among routes that a path fits, a literal segment beats a variable and a variable beats a
    rest, from the left; a route that takes the method beats one that does not.

    Attributes:
        overlapping: Routes that another product already has, as ``PRODUCT METHOD PATH``; the
            product that is first by name keeps them.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._allowances: dict[tuple[str, str], Allowance] = {}
        self.overlapping: tuple[str, ...] = ()

    @classmethod
    def of(cls, world: World) -> "Catalogue":
        """Compile ``world``.

        Raises:
            TemplateError: A path template cannot be used.
        """
        self = cls()
        overlapping: list[str] = []
        for name in sorted(world.products):
            product = world.products[name]
            for route in product.spec.routes:
                overlapping += self._add(_route(product, route))
        self.overlapping = tuple(overlapping)
        plans = {name: Allowance.of(plan) for name, plan in world.plans.items()}
        for consumer in world.consumers.values():
            for each in consumer.spec.subscriptions:
                self._allowances[consumer.name, each.product] = plans[each.plan]
        return self

    def match(self, method: str, path: Path) -> Route | WrongMethod | None:
        """Return the route for a request, or why there is none; None: no product has the path."""
        first: Route | None = None
        allowed: set[str] = set()
        for route in _fitting(self._root, path.segments, 0):
            if not route.methods or method in route.methods:
                return route
            first = first or route
            allowed |= route.methods
        return WrongMethod(first.product, tuple(sorted(allowed))) if first else None

    def allowance(self, consumer: str, product: str) -> Allowance | None:
        """Return the plan under which ``consumer`` subscribed to ``product``, or None."""
        return self._allowances.get((consumer, product))

    def _add(self, route: Route) -> list[str]:
        node = self._root
        segments = _segments(route.template)
        for segment in segments[: route.rest[1]] if route.rest else segments:
            node = node.child(segment)
        routes = node.rests if route.rest else node.ends
        others = [r for r in routes if r.product != route.product]
        shared = [
            f"{route.product} {method} {route.template}"
            for other in others
            for method in sorted(_shared(route.methods, other.methods))
        ]
        routes.append(route)
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


def _segments(template: str) -> list[str]:
    return template[1:].split("/")


def _route(product: ApiProduct, route: ProductRoute) -> Route:
    variables, rest = _variables(product.name, route.path)
    return Route(
        product=product.name,
        template=route.path,
        methods=frozenset(route.methods),
        function=route.to.function,
        service=route.to.service,
        rewrite=_rewrite(product.name, route),
        max_body_bytes=product.spec.max_body_bytes,
        timeout=seconds(product.spec.timeout),
        variables=tuple(variables.items()),
        rest=rest,
    )


def _variables(product: str, template: str) -> tuple[dict[str, int], tuple[str, int] | None]:
    variables: dict[str, int] = {}
    segments = _segments(template)
    if segments[0] == RESERVED:
        raise TemplateError(product, template, "a path of the gateway's own", "another first part")
    if "" in segments[:-1]:
        raise TemplateError(product, template, "an empty segment", "single slashes")
    for place, segment in enumerate(segments):
        variable = _VARIABLE.fullmatch(segment)
        if variable is None:
            _literal(product, template, segment)
            continue
        name, rest = variable[1], bool(variable[2])
        if name in variables:
            raise TemplateError(product, template, f"{{{name}}} twice", "each name once")
        if not rest:
            variables[name] = place
        elif place == len(segments) - 1:
            return variables, (name, place)
        else:
            raise TemplateError(product, template, f"{segment} inside", "it at the end only")
    return variables, None


def _literal(product: str, template: str, segment: str) -> None:
    if "{" in segment or "}" in segment:
        expected = "a variable to be a whole segment like {id} or a last {rest+}"
        raise TemplateError(product, template, f"segment {segment!r}", expected)
    if _canonical("/" + segment) != Path("/" + segment, (segment,)):
        raise TemplateError(product, template, f"segment {segment!r}", "text that needs no escape")


def _rewrite(product: str, route: ProductRoute) -> str | None:
    rewrite = route.to.rewrite
    if rewrite is not None:
        spelled = _canonical(rewrite)
        if spelled is None or spelled.text != rewrite:
            found = f"rewrite {rewrite!r}"
            raise TemplateError(product, route.path, found, "a path in its shortest spelling")
    return rewrite


def _canonical(path: str) -> Path | None:
    try:
        return canonical(path)
    except Refused:
        return None
