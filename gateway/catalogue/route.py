"""One route of a product in one of its environments, ready to use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime

from gateway.authn.check import BadMethod, Prepared
from gateway.call import Fields
from gateway.catalogue.policies import Policies
from gateway.catalogue.target import Target, Upstream
from gateway.catalogue.template import Template, TemplateError
from gateway.path import Path
from gateway.traffic.openapi.contract import Contract
from gateway.traffic.wrong import WrongPolicy
from wherry.model import product as model
from wherry.model.authentication import Method as Authentication
from wherry.model.resource import seconds
from wherry.model.traffic import Traffic

Prepare = Callable[[Sequence[Authentication]], Prepared]

DEFAULT = "default"
"""Name of the environment of a product that names none."""


@dataclass(frozen=True, slots=True)
class Making:
    """What routes are made with.

    Attributes:
        prepare: Makes ways to authenticate ready.
        contract: What calls are held against; None is nothing.
    """

    prepare: Prepare
    contract: Contract | None


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a product, ready to use.

    Attributes:
        product: The product's name.
        version: The product's.
        environment: Name of the product's environment.
        template: The path as written.
        shape: The path, compiled.
        methods: That it takes; empty is all.
        headers: Lower-case names and values that a request must have; None is any value.
        operation: Its name in quotas, usage and the portal.
        target: Where it leads.
        scopes: All of which the caller must be granted.
        cost: Units of ``requests`` that a call counts.
        authentication: Ways to say who calls.
        policies: The product's, with the route's own in their place.
        contract: What calls are held against; None is nothing.
        max_body_bytes: Larger requests are refused.
        timeout: Seconds that the answer may take to begin, and to go on.
        notices: Fields of every answer that say how long the product lives.
    """

    product: str
    version: str
    environment: str
    template: str
    shape: Template
    methods: frozenset[str]
    headers: tuple[tuple[str, str | None], ...]
    operation: str
    target: Target
    scopes: frozenset[str]
    cost: int
    authentication: Prepared
    policies: Policies
    contract: Contract | None
    max_body_bytes: int
    timeout: float
    notices: tuple[tuple[str, str], ...]

    def parameters(self, path: Path) -> dict[str, str]:
        """Return what the variables stand for in ``path``, unescaped."""
        return self.shape.parameters(path)

    def forwarded(self, path: Path, upstream: Upstream) -> str:
        """Return the path that ``upstream`` sees."""
        return self.shape.rewritten(path, upstream.rewrite)

    def fits(self, headers: Fields) -> bool:
        """Return whether a request with ``headers`` has what the route asks for."""
        for name, value in self.headers:
            if name not in headers or (value is not None and value not in headers.getall(name)):
                return False
        return True


def compiled(
    product: model.ApiProduct,
    route: model.ProductRoute,
    place: model.Environment | None,
    making: Making,
) -> Route:
    """Return ``route`` as it is in the environment ``place``; None is the one without a name.

    Raises:
        TemplateError: Its path, rewrite or URL cannot be used.
    """
    spec = product.spec
    template = Template.of(product.name, route.path)
    try:
        target = Target.of(product.name, template, route.to, place)
        names = [name for name, _ in (*template.variables, *filter(None, [template.rest]))]
        policies = Policies.of(merged(spec.traffic, route.traffic), names)
        authentication = making.prepare(
            spec.authentication if route.authentication is None else route.authentication
        )
    except WrongPolicy as error:
        raise TemplateError(product.name, route.path, error.found, error.expected) from None
    except BadMethod as error:
        found, _, expected = str(error).partition(", expected ")
        raise TemplateError(product.name, route.path, found, expected) from None
    return Route(
        product=product.name,
        version=spec.version,
        environment=DEFAULT if place is None else place.name,
        template=route.path,
        shape=template,
        methods=frozenset(route.methods),
        headers=tuple((each.name.lower(), each.value) for each in route.headers),
        operation=route.operation or f"{','.join(sorted(route.methods)) or '*'} {route.path}",
        target=target,
        scopes=frozenset(route.scopes),
        cost=route.cost,
        authentication=authentication,
        policies=policies,
        contract=making.contract if policies.validates else None,
        max_body_bytes=(
            spec.max_body_bytes if route.max_body_bytes is None else route.max_body_bytes
        ),
        timeout=seconds(spec.timeout if route.timeout is None else route.timeout),
        notices=_notices(spec),
    )


def merged(product: Traffic, route: Traffic) -> Traffic:
    """Return the product's policies with those that the route gives in their place."""
    if not route.model_fields_set:
        return product
    given = {name: getattr(route, name) for name in route.model_fields_set}
    return product.model_copy(update=given)


def _notices(spec: model.ApiProductSpec) -> tuple[tuple[str, str], ...]:
    """Return ``Deprecation`` (RFC 9745) and ``Sunset`` (RFC 8594)."""
    said = []
    if spec.deprecated is not None:
        said.append(("Deprecation", f"@{int(_midnight(spec.deprecated).timestamp())}"))
    if spec.sunset is not None:
        said.append(("Sunset", format_datetime(_midnight(spec.sunset), usegmt=True)))
    return tuple(said)


def _midnight(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), time(), UTC)
