"""Where routes lead, ready to be called."""

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from gateway.catalogue.template import Template, TemplateError, checked_rewrite
from gateway.traffic.fixed import Ready
from gateway.traffic.split import Split
from wherry.model import product as model

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|[0-9A-Fa-f:.]{2,45}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """An outside server.

    Attributes:
        secure: Whether it speaks TLS.
        host: Its name or address.
        port: 1 to 65535.
        base: Path before all others, without a slash at the end; often empty.
    """

    secure: bool
    host: str
    port: int
    base: str

    @property
    def authority(self) -> str:
        """What stands in the ``Host`` field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == _PORTS["https" if self.secure else "http"]
        return host if usual else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One place where requests go: exactly one of the first three.

    Attributes:
        function: Name of a function.
        service: Name of a service of the mesh.
        origin: A server outside.
        rewrite: See `Template.rewritten`.
        name: Says which, in metrics and breakers.
    """

    function: str | None
    service: str | None
    origin: Origin | None
    rewrite: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """An upstream that gets copies of ``percent`` of 100 requests."""

    upstream: Upstream
    percent: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route leads.

    Attributes:
        upstreams: One, or all of a split; none when there is a mock.
        split: Which of several; None when there are not.
        mock: The answer itself.
        mirror: Gets copies.
    """

    upstreams: tuple[Upstream, ...]
    split: Split | None
    mock: Ready | None
    mirror: Mirror | None

    @classmethod
    def of(
        cls, product: str, template: Template, to: model.Target, place: model.Environment | None
    ) -> "Target":
        """Compile ``to`` for the environment ``place``, whose own target may take its place.

        Raises:
            TemplateError: A rewrite or a URL cannot be used.
            WrongPolicy: The mock cannot.
        """

        def made(upstream: model.Upstream | model.Target) -> Upstream:
            return _placed(product, template, _upstream(product, template, upstream), place)

        mirror = None if to.mirror is None else Mirror(made(to.mirror), to.mirror.percent)
        if to.mock is not None:
            return cls((), None, Ready.of(to.mock), mirror)
        if to.split:
            split = Split.of(to.split, f"{product} {template.text}")
            return cls(tuple(made(each) for each in to.split), split, None, mirror)
        return cls((made(to),), None, None, mirror)


def _placed(
    product: str, template: Template, upstream: Upstream, place: model.Environment | None
) -> Upstream:
    """Return what takes the place of ``upstream`` in the environment: one of its kind."""
    if place is None or place.to is None:
        return upstream
    other = _upstream(product, template, place.to)
    same_kind = (
        (upstream.function is None) == (other.function is None)
        and (upstream.service is None) == (other.service is None)
        and (upstream.origin is None) == (other.origin is None)
    )
    if not same_kind:
        return upstream
    return replace(other, rewrite=upstream.rewrite) if other.rewrite is None else other


def _upstream(product: str, template: Template, to: model.Upstream | model.Target) -> Upstream:
    origin = None if to.url is None else _origin(product, template, to.url)
    rewrite = checked_rewrite(product, template, to.rewrite)
    name = to.function or to.service or (origin.authority if origin else "")
    kind = "function" if to.function else "service" if to.service else "url"
    return Upstream(to.function, to.service, origin, rewrite, f"{kind}/{name}")


def _origin(product: str, template: Template, url: str) -> Origin:
    expected = "a URL of scheme, host, perhaps a port and a path"
    try:
        read = urlsplit(url)
        port = _PORTS[read.scheme.lower()] if read.port is None else read.port
    except (ValueError, KeyError):
        raise TemplateError(product, template.text, "a url that is none", expected) from None
    if "@" in read.netloc:
        # It is not repeated: it may hold a password.
        raise TemplateError(product, template.text, "a url with a user", expected)
    host = read.hostname or ""
    if not _HOST.fullmatch(host) or not port or read.query or read.fragment:
        raise TemplateError(product, template.text, f"url {url!r}", expected)
    if "{" in read.path:
        raise TemplateError(product, template.text, f"url {url!r}", "variables in 'rewrite' only")
    base = checked_rewrite(product, template, read.path.rstrip("/") or None) or ""
    return Origin(read.scheme.lower() == "https", host, port, base)
