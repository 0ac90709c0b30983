"""Texts with variables in them, like ``Bearer ${consumer}``, compiled once.

``$${`` stands for ``${``. A variable without a value, like a query parameter that was not given,
is nothing.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from gateway.call import Fields
from gateway.fields import readable
from gateway.traffic.wrong import WrongPolicy

_PART = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_PLAIN = ("consumer", "app", "plan", "request_id")
_GROUPS = ("path", "query", "header")
_PERSONAL = ("consumer", "app", "plan", "header")
_MOST_PARAMETERS = 1000


@dataclass(slots=True)
class Facts:
    """What is known about a call.

    Attributes:
        consumer: Who calls; nothing for nobody.
        app: Of theirs.
        plan: Under which.
        request_id: Names the call.
        path: Variables of the path.
        query: As the request had it, raw.
        headers: As received.
    """

    consumer: str
    app: str
    plan: str
    request_id: str
    path: Mapping[str, str]
    query: str
    headers: Fields
    _parameters: dict[str, str] | None = None

    def parameter(self, name: str) -> str:
        """Return the first value of a query parameter, unescaped, or nothing."""
        if self._parameters is None:
            pairs = parse_qsl(self.query, keep_blank_values=True) if self.query else []
            self._parameters = dict(reversed(pairs[:_MOST_PARAMETERS]))
        return self._parameters.get(name, "")


_Read = Callable[[Facts], str]


@dataclass(frozen=True, slots=True)
class Text:
    """A text, ready to be filled in.

    Attributes:
        parts: Plain pieces, and readers of variables.
        personal: Whether it says something about who calls, or what their headers say.
    """

    parts: tuple[str | _Read, ...]
    personal: bool = False

    @classmethod
    def of(cls, text: str, variables: Collection[str] | None = None) -> "Text":
        """Compile ``text``.

        Args:
            text: With variables or without.
            variables: Names that ``path.`` may be followed by; None is any.

        Raises:
            WrongPolicy: A variable is unknown, or not ended.
        """
        parts, at, personal = list[str | _Read](), 0, False
        for found in _PART.finditer(text):
            parts.append(text[at : found.start()])
            at = found.end()
            if found[0] == "$${":
                parts.append("${")
            elif found[1] is None:
                raise WrongPolicy(f"{text!r}: '${{' without '}}'", "'${NAME}', or '$${' for itself")
            else:
                parts.append(_reader(found[1], variables))
                personal = personal or found[1].partition(".")[0] in _PERSONAL
        parts.append(text[at:])
        return cls(tuple(part for part in parts if part), personal)

    def fill(self, facts: Facts) -> str:
        """Return the text for one call."""
        return "".join([part if isinstance(part, str) else part(facts) for part in self.parts])


def _reader(name: str, variables: Collection[str] | None) -> _Read:
    group, dot, rest = name.partition(".")
    if not dot and name in _PLAIN:
        return lambda facts: str(getattr(facts, name))
    if not rest or group not in _GROUPS:
        expected = "consumer, app, plan, request_id, path.NAME, query.NAME or header.NAME"
        raise WrongPolicy(f"variable '${{{name}}}'", expected)
    if group == "query":
        return lambda facts: facts.parameter(rest)
    if group == "header":
        return lambda facts: readable(facts.headers.get(rest, ""))
    if variables is not None and rest not in variables:
        listed = ", ".join(sorted(variables)) or "none: the path has no variables"
        raise WrongPolicy(f"variable '${{{name}}}'", f"a name of the path's variables: {listed}")
    return lambda facts: facts.path.get(rest, "")
