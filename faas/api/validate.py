"""Parameters against the model's bounds: required, length, value, pattern, enumeration. Pure.

The words are those of AWS's own validators, which callers and tests read:
``1 validation error detected: Value 'x' at 'functionName' failed to satisfy constraint: ...``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faas.api.faults import ValidationFault
from faas.api.model import NUMBERS, Kind, Member, OperationModel, ServiceModel, Shape
from faas.api.patterns import matches

MAX_SAID = 10
"""Most violations that are told at once."""
LEFT_TO_OPERATIONS = frozenset({"Runtime"})
"""Shapes whose bounds Lambda itself checks later, with an error of its own."""
_MAX_ECHO = 1024
_MAX_MATCHED = 100_000
"""Longest text that is held against a pattern without a bound on its length."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong.

    Attributes:
        path: ``code.zipFile``: members begin in lower case, items are ``1.member``.
        shape: Name of the shape that it violates.
        value: What was found, as AWS says it; empty when it is not said.
        constraint: ``Member must not be null`` and the like.
    """

    path: str
    shape: str
    value: str
    constraint: str

    def __str__(self) -> str:
        value = f"Value {self.value}" if self.value else "Value"
        return f"{value} at '{self.path}' failed to satisfy constraint: {self.constraint}"


def refuse_invalid(
    model: ServiceModel, operation: OperationModel, parameters: Mapping[str, Any]
) -> None:
    """Do nothing when ``parameters`` are as the model has them.

    Raises:
        ValidationFault: They are not; all that is wrong is told, up to `MAX_SAID`.
    """
    found = violations(model, operation, parameters)
    if found:
        many = "error" if len(found) == 1 else "errors"
        said = "; ".join(map(str, found[:MAX_SAID]))
        raise ValidationFault(f"{len(found)} validation {many} detected: {said}")


def violations(
    model: ServiceModel, operation: OperationModel, parameters: Mapping[str, Any]
) -> list[Violation]:
    """Return all that is wrong with ``parameters``, in the model's order."""
    return list(_Check(model).members(parameters, operation.input, ""))


class _Check:
    def __init__(self, model: ServiceModel) -> None:
        self._model = model

    def members(self, found: Mapping[str, Any], shape: Shape, path: str) -> Iterator[Violation]:
        """Yield what is wrong with a structure's members."""
        for name in shape.required:
            if found.get(name) is None:
                where = path + _camel(name)
                yield Violation(where, shape.name, "null", "Member must not be null")
        for name, member in shape.members.items():
            value = found.get(name)
            if value is not None:
                yield from self.value(value, member, path + _camel(name))

    def value(self, found: Any, member: Member, path: str) -> Iterator[Violation]:
        """Yield what is wrong with one value and all that it holds."""
        shape = self._model.shape(member)
        own = [] if shape.name in LEFT_TO_OPERATIONS else _constraints(found, shape)
        constraints = [*own, *self._held(found, shape)]
        if constraints:
            said = "" if shape.sensitive else _said(found)
            for constraint in constraints:
                yield Violation(path, shape.name, said, constraint)
        if shape.kind is Kind.STRUCTURE and not shape.document:
            yield from self.members(found, shape, f"{path}.")
        elif shape.item is not None and self._model.shape(shape.item).kind in _NESTED:
            pairs = found.items() if isinstance(found, dict) else enumerate(found, start=1)
            for key, each in pairs:
                if each is not None:
                    yield from self.value(each, shape.item, f"{path}.{key}.member")

    def _held(self, found: Any, shape: Shape) -> Iterator[str]:
        """Yield what a list or a map demands of its items and keys, when they are not so."""
        if shape.item is None:
            return
        item = self._model.shape(shape.item)
        values = found.values() if isinstance(found, dict) else found
        if shape.key is not None:
            key = self._model.shape(shape.key)
            if any(_constraints(each, key) for each in found):
                yield f"Map keys must satisfy constraint: {_demands(key)}"
        if any(
            each is None or (item.kind not in _NESTED and _constraints(each, item))
            for each in values
        ):
            holder = "Map value" if shape.kind is Kind.MAP else "Member"
            yield f"{holder} must satisfy constraint: {_demands(item)}"


_NESTED = frozenset({Kind.STRUCTURE, Kind.LIST, Kind.MAP})


def _constraints(found: Any, shape: Shape) -> list[str]:
    """Return the constraints of ``shape`` itself that ``found`` does not satisfy."""
    if shape.kind in NUMBERS:
        return _value_constraints(found, shape)
    if shape.kind in (Kind.BOOLEAN, Kind.TIMESTAMP, Kind.STRUCTURE):
        return []
    size = len(found)
    broken = []
    if shape.least is not None and size < shape.least:
        broken.append(_at_least("length", shape.least))
    over = shape.most is not None and size > shape.most
    if over:
        broken.append(_at_most("length", shape.most))
    if shape.kind is Kind.STRING:
        if shape.pattern and not over and not _matches(shape.pattern, found):
            broken.append(_like(shape))
        if shape.enum and found not in shape.enum:
            broken.append(_one_of(shape))
    return broken


def _value_constraints(found: float, shape: Shape) -> list[str]:
    broken = []
    if shape.least is not None and not found >= shape.least:
        broken.append(_at_least("value", shape.least))
    if shape.most is not None and not found <= shape.most:
        broken.append(_at_most("value", shape.most))
    return broken


def _demands(shape: Shape) -> str:
    """Return all that ``shape`` demands of a value, in AWS's brackets."""
    what = "value" if shape.kind in NUMBERS else "length"
    said = []
    if shape.most is not None:
        said.append(_at_most(what, shape.most))
    if shape.least is not None:
        said.append(_at_least(what, shape.least))
    if shape.pattern:
        said.append(_like(shape))
    if shape.enum:
        said.append(_one_of(shape))
    return f"[{', '.join([*said, 'Member must not be null'])}]"


def _at_least(what: str, bound: float) -> str:
    return f"Member must have {what} greater than or equal to {bound:g}"


def _at_most(what: str, bound: float | None) -> str:
    return f"Member must have {what} less than or equal to {bound or 0:g}"


def _like(shape: Shape) -> str:
    return f"Member must satisfy regular expression pattern: {shape.pattern}"


def _one_of(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _matches(pattern: str, text: str) -> bool:
    return len(text) <= _MAX_MATCHED and matches(pattern, text)


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _said(found: Any) -> str:
    """Return a value in the quotes of AWS's messages, not over `_MAX_ECHO` characters."""
    text = _java(found)
    return f"'{text if len(text) <= _MAX_ECHO else text[:_MAX_ECHO] + '...'}'"


def _java(found: Any) -> str:
    """Return what Java's ``toString`` gives for such a value."""
    match found:
        case bool():
            text = str(found).lower()
        case bytes():
            text = f"java.nio.HeapByteBuffer[pos=0 lim={len(found)} cap={len(found)}]"
        case datetime():
            text = found.isoformat()
        case list():
            text = f"[{', '.join(map(_java, found))}]"
        case dict():
            pairs = (f"{key}={_java(each)}" for key, each in found.items())
            text = f"{{{', '.join(pairs)}}}"
        case None:
            text = "null"
        case _:
            text = str(found)
    return text
