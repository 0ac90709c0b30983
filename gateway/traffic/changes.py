"""The single changes of which a transformation is made: to fields, to the query, to JSON bodies.

In each, what goes is removed first, then values are set, then added.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from multidict import CIMultiDict

from gateway.call import FRAMING
from gateway.problem import Refused
from gateway.traffic import json
from gateway.traffic.words import Facts, Text
from gateway.traffic.wrong import WrongPolicy
from wherry.model.route import HeaderModifier
from wherry.model.traffic import BodyChange, QueryChange

_NOT_HERE = FRAMING | {"host"}
_VISIBLE = "".join(map(chr, range(0x20, 0x7F)))

Value = Text | str | int | float | bool | None | list["Value"] | dict[str, "Value"]
"""JSON in which every text with a variable is compiled."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Changes to fields."""

    remove: tuple[str, ...]
    set: tuple[tuple[str, Text], ...]
    add: tuple[tuple[str, Text], ...]

    @classmethod
    def of(cls, model: HeaderModifier, variables: Collection[str] | None) -> "Headers":
        """Prepare ``model``; see `Transformer.of`."""
        for name in (*(each.name for each in (*model.set, *model.add)), *model.remove):
            if name.lower() in _NOT_HERE:
                raise WrongPolicy(f"header {name!r}", "one that does not frame the message")
        return cls(
            tuple(model.remove),
            tuple((each.name, Text.of(each.value, variables)) for each in model.set),
            tuple((each.name, Text.of(each.value, variables)) for each in model.add),
        )

    def apply(self, fields: CIMultiDict[str], facts: Facts) -> None:
        """Change ``fields`` in place.

        What a field cannot hold, such as the end of a line in a query parameter, is
        percent-encoded.
        """
        values = [_value(text, facts) for _, text in self.set]
        more = [_value(text, facts) for _, text in self.add]
        for name in self.remove:
            fields.popall(name, None)
        for (name, _), value in zip(self.set, values, strict=True):
            fields[name] = value
        for (name, _), value in zip(self.add, more, strict=True):
            fields.add(name, value)


@dataclass(frozen=True, slots=True)
class Query:
    """Changes to the query; what is not named keeps its spelling and order."""

    gone: frozenset[str]
    new: tuple[tuple[str, Text], ...]

    @classmethod
    def of(cls, model: QueryChange, variables: Collection[str] | None) -> "Query":
        """Prepare ``model``; see `Transformer.of`."""
        new = tuple(
            (name, Text.of(value, variables))
            for name, value in (*model.set.items(), *model.add.items())
        )
        return cls(frozenset({*model.remove, *model.set}), new)

    def apply(self, query: str, facts: Facts) -> str:
        """Return the raw query that is sent instead of ``query``."""
        if not self.gone and not self.new:
            return query
        kept = [
            part
            for part in query.split("&")
            if part and unquote_plus(part.partition("=")[0]) not in self.gone
        ]
        kept += [f"{quote_plus(name)}={quote_plus(text.fill(facts))}" for name, text in self.new]
        return "&".join(kept)


@dataclass(frozen=True, slots=True)
class Body:
    """Changes to a JSON body.

    Attributes:
        status: Of the refusal of a body that cannot be changed.
    """

    remove: tuple[tuple[str, ...], ...]
    set: tuple[tuple[tuple[str, ...], Value], ...]
    status: HTTPStatus

    @classmethod
    def of(cls, model: BodyChange, variables: Collection[str] | None, status: HTTPStatus) -> "Body":
        """Prepare ``model``; see `Transformer.of`."""
        return cls(
            tuple(json.tokens(pointer) for pointer in model.remove),
            tuple(
                (json.tokens(pointer), _compiled(value, variables))
                for pointer, value in model.set.items()
            ),
            status,
        )

    def apply(self, body: bytes, facts: Facts) -> bytes:
        """Return the body that is sent instead of ``body``.

        Raises:
            Refused: It is no JSON, or a place leads through something that holds nothing: 400
                for a request, 502 for an answer.
        """
        try:
            value = json.loads(body)
        except json.BadJson as error:
            raise self._refused(str(error)) from None
        for steps in self.remove:
            _remove(value, steps)
        for steps, new in self.set:
            self._set(value, steps, _filled(new, facts))
        return json.dumps(value)

    def _set(self, value: Any, steps: tuple[str, ...], new: Any) -> None:
        for step in steps[:-1]:
            if isinstance(value, dict):
                value = value.setdefault(step, {})
            elif isinstance(value, list) and (place := json.index(value, step)) is not None:
                value = value[place]
            else:
                raise self._nothing(steps)
        last = steps[-1]
        if isinstance(value, dict):
            value[last] = new
        elif isinstance(value, list) and last in ("-", str(len(value))):
            value.append(new)
        elif isinstance(value, list) and (place := json.index(value, last)) is not None:
            value[place] = new
        else:
            raise self._nothing(steps)

    def _nothing(self, steps: tuple[str, ...]) -> Refused:
        where = "/" + "/".join(steps)
        return self._refused(f"there is no object or list that could hold {where}")

    def _refused(self, why: str) -> Refused:
        who = "The body" if self.status is HTTPStatus.BAD_REQUEST else "The upstream's answer"
        return Refused(self.status, f"{who} cannot be changed: {why}.")


def personal(value: Value) -> Iterator[Text]:
    """Return the texts in ``value`` that depend on who calls."""
    match value:
        case Text() if value.personal:
            yield value
        case dict():
            for each in value.values():
                yield from personal(each)
        case list():
            for each in value:
                yield from personal(each)
        case _:
            pass


def _value(text: Text, facts: Facts) -> str:
    return quote(text.fill(facts), safe=_VISIBLE)


def _compiled(value: Any, variables: Collection[str] | None) -> Value:
    if isinstance(value, str):
        return Text.of(value, variables)
    if isinstance(value, Mapping):
        return {str(name): _compiled(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [_compiled(each, variables) for each in value]
    if value is None or isinstance(value, int | float):
        return value
    raise WrongPolicy(f"value of type {type(value).__name__}", "JSON")


def _filled(value: Value, facts: Facts) -> Any:
    match value:
        case Text():
            return value.fill(facts)
        case dict():
            return {name: _filled(each, facts) for name, each in value.items()}
        case list():
            return [_filled(each, facts) for each in value]
        case _:
            return value


def _remove(value: Any, steps: tuple[str, ...]) -> None:
    there, holder = json.find(value, steps[:-1])
    if not there:
        return
    if isinstance(holder, dict):
        holder.pop(steps[-1], None)
    elif isinstance(holder, list) and (place := json.index(holder, steps[-1])) is not None:
        del holder[place]
