"""Path templates: how routes say which paths are theirs."""

import re
from dataclasses import dataclass

from gateway.path import Path, canonical
from gateway.problem import Refused
from wherry.errors import WherryError

RESERVED = ".wherry"
"""First segment of the gateway's own paths; no product can have it."""

VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\+?)\}", re.ASCII)


class TemplateError(WherryError):
    """A product's path template, or what hangs on it, cannot be used."""

    def __init__(self, product: str, template: str, found: str, expected: str) -> None:
        super().__init__(f"product {product!r} path {template!r}: {found}, expected {expected}")
        self.product, self.template = product, template


@dataclass(frozen=True, slots=True)
class Template:
    """A path template.

    Attributes:
        text: As written.
        segments: Between its slashes, as written.
        variables: Name and place of each variable among the path's segments.
        rest: Name and first place of the variable that takes the rest, or None.
    """

    text: str
    segments: tuple[str, ...]
    variables: tuple[tuple[str, int], ...]
    rest: tuple[str, int] | None

    @classmethod
    def of(cls, product: str, text: str) -> "Template":
        """Read ``text``.

        Raises:
            TemplateError: It is none.
        """
        variables, rest = _variables(product, text)
        return cls(text, tuple(_segments(text)), tuple(variables.items()), rest)

    def parameters(self, path: Path) -> dict[str, str]:
        """Return what the variables stand for in ``path``, unescaped."""
        found = {name: path.segments[place] for name, place in self.variables}
        if self.rest:
            name, place = self.rest
            found[name] = "/".join(path.segments[place:])
        return found

    def rewritten(self, path: Path, rewrite: str | None) -> str:
        """Return ``path`` with ``rewrite`` for what stands before the rest; None keeps it.

        Variables of ``rewrite`` stand for what they do in the template.
        """
        if rewrite is None:
            return path.text
        if "{" in rewrite:
            spelled = path.text.split("/")
            places = dict(self.variables)
            rewrite = VARIABLE.sub(lambda found: spelled[places[found[1]] + 1], rewrite)
        if self.rest is None:
            return rewrite
        kept = path.text.split("/")[self.rest[1] + 1 :]
        return rewrite.rstrip("/") + "/" + "/".join(kept)


def checked_rewrite(product: str, template: Template, rewrite: str | None) -> str | None:
    """Return ``rewrite`` if it is a path in its shortest spelling, or None.

    Raises:
        TemplateError: It is another text, or names a variable that the template has not.
    """
    if rewrite is None:
        return None
    known = dict(template.variables)
    for name, rest in VARIABLE.findall(rewrite):
        if rest or name not in known:
            expected = f"one of {', '.join(known) or 'none'}; what {{name+}} takes stands behind it"
            raise TemplateError(
                product, template.text, f"rewrite {rewrite!r} with variable {name!r}", expected
            )
    plain = VARIABLE.sub("x", rewrite)
    spelled = _canonical(plain)
    if spelled is None or spelled.text != plain:
        found = f"rewrite {rewrite!r}"
        raise TemplateError(product, template.text, found, "a path in its shortest spelling")
    return rewrite


def _segments(template: str) -> list[str]:
    return template[1:].split("/")


def _variables(product: str, template: str) -> tuple[dict[str, int], tuple[str, int] | None]:
    variables: dict[str, int] = {}
    segments = _segments(template)
    if segments[0] == RESERVED:
        raise TemplateError(product, template, "a path of the gateway's own", "another first part")
    if "" in segments[:-1]:
        raise TemplateError(product, template, "an empty segment", "single slashes")
    for place, segment in enumerate(segments):
        variable = VARIABLE.fullmatch(segment)
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


def _canonical(path: str) -> Path | None:
    try:
        return canonical(path)
    except Refused:
        return None
