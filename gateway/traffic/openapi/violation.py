"""Where a call does not keep to its document, without the values themselves."""

from dataclasses import dataclass
from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind as Kind

from gateway.traffic.openapi.document import kind
from wherry.pointer import pointer_of

MAX_VIOLATIONS = 20
"""Most that are told of one call."""

_MOST_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Violation:
    """One place that does not keep to the document.

    Attributes:
        where: Like ``query page``, ``header X-Id`` or ``body/items/0/name``.
        found: What is there, by its kind; never the value.
        expected: What the document wants there.
    """

    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}, expected {self.expected}"

    def member(self) -> dict[str, str]:
        """Return it for the ``violations`` of a problem document."""
        return {"where": self.where, "found": self.found, "expected": self.expected}


def of_whole(where: str, value: object) -> Violation:
    """Return that the value at ``where`` does not fit its schema, without telling which part."""
    return Violation(where, _a(kind(value)), "one that fits its schema")


def of_error(where: str, error: jsonschema_rs.ValidationError) -> Violation:
    """Return what a schema's validator says of the value at ``where``."""
    place = where + pointer_of(error.instance_path)
    found, expected = f"{_a(kind(error.instance))}", _expected(error.kind)
    match error.kind:
        case Kind.Required():
            found = "it is missing"
            place += pointer_of((error.kind.property,))
            expected = "a value"
        case Kind.AdditionalProperties() | Kind.UnevaluatedProperties():
            found = _short(f"members {', '.join(sorted(error.kind.unexpected))}")
        case Kind.FalseSchema():
            found, expected = "a value", "none"
        case _:
            pass
    return Violation(place[:_MOST_CHARACTERS], found, _short(expected))


def _expected(found: Any) -> str:  # noqa: PLR0911
    match found:
        case Kind.Type():
            return " or ".join(_a(name) for name in found.types)
        case Kind.Enum():
            return "one of " + ", ".join(repr(option) for option in found.options)
        case Kind.Constant():
            return repr(found.expected_value)
        case Kind.Format():
            return f"the format {found.format}"
        case Kind.Pattern():
            return f"the form {found.pattern}"
        case Kind.AdditionalProperties() | Kind.UnevaluatedProperties():
            return "only members that are described"
        case Kind.OneOfMultipleValid():
            return "to fit one of the alternatives, not several"
        case Kind.OneOfNotValid() | Kind.AnyOf():
            return "to fit one of the alternatives"
        case _:
            said = found.as_dict()
            limit = next(iter(said.values()), "") if said else ""
            return f"{found.name} {limit}".strip()


def _a(name: str) -> str:
    if name == "null":
        return name
    return f"an {name}" if name[0] in "aio" else f"a {name}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
