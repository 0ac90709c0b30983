"""Patterns that choose records, in EventBridge's language. Pure.

Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

import ipaddress
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from faas.lambda_errors import InvalidParameter

MAX_PATTERN = 4096
"""Most characters in a pattern. Source: Lambda quotas, "filter criteria"."""
_MAX_DEPTH = 32
_MAX_OR = 1000
_OR = "$or"
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PAIR = 2

Pattern = Mapping[str, Any]


def pattern(text: str) -> Pattern:
    """Return a pattern that `matches` takes.

    Raises:
        InvalidParameter: The text is no pattern.
    """
    if len(text) > MAX_PATTERN:
        raise _wrong(text, f"{len(text)} characters", f"at most {MAX_PATTERN}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(text, "no JSON", "a JSON object") from None
    _check(text, document, 0)
    found: Pattern = document
    return found


def matches(wanted: Pattern, record: Any) -> bool:
    """Return whether a record has what a pattern wants; a text that is JSON counts as its value.

    Args:
        wanted: As `pattern` returns it.
        record: JSON.
    """
    record = _opened(record)
    if isinstance(record, list):
        return any(matches(wanted, each) for each in record)
    return isinstance(record, dict) and all(
        _fits(key, rule, record) for key, rule in wanted.items()
    )


def _opened(record: Any) -> Any:
    """Return the value of a text that is JSON; None of one that is not."""
    if not isinstance(record, str):
        return record
    try:
        return json.loads(record)
    except (ValueError, RecursionError):
        return None


def _fits(key: str, rule: Any, record: Mapping[str, Any]) -> bool:
    if key == _OR and isinstance(rule, list):
        return any(matches(each, record) for each in rule)
    if isinstance(rule, dict):
        return matches(rule, record.get(key, {}))
    return _any(rule, record, key)


def _any(rules: Sequence[Any], record: Mapping[str, Any], key: str) -> bool:
    """Return whether one of the rules for a key holds."""
    present = key in record
    value = record.get(key)
    values = value if isinstance(value, list) else [value]
    for rule in rules:
        if isinstance(rule, dict) and "exists" in rule:
            if present is rule["exists"]:
                return True
        elif present and any(_holds(rule, each) for each in values):
            return True
    return False


def _holds(rule: Any, value: Any) -> bool:
    if not isinstance(rule, dict):
        return (type(rule) is type(value) and rule == value) or _same_number(rule, value)
    ((name, wanted),) = rule.items()
    if name == "anything-but":
        return not _excluded(wanted, value)
    if name == "numeric":
        return _number(value) and all(
            _COMPARE[sign](value, bound)
            for sign, bound in zip(wanted[::2], wanted[1::2], strict=True)
        )
    return isinstance(value, str) and _TEXT[name](value, wanted)


def _excluded(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, dict):
        ((name, inside),) = wanted.items()
        several = inside if isinstance(inside, list) else [inside]
        return any(_holds({name: each}, value) for each in several)
    return any(_holds(each, value) for each in (wanted if isinstance(wanted, list) else [wanted]))


def _affix(compare: Callable[[str, str], bool]) -> Callable[[str, Any], bool]:
    def holds(value: str, wanted: Any) -> bool:
        if isinstance(wanted, dict):
            return compare(value.casefold(), wanted["equals-ignore-case"].casefold())
        return compare(value, wanted)

    return holds


def _wild(value: str, wanted: str) -> bool:
    r"""Return whether ``value`` is ``wanted`` with any text for each ``*``; a ``\*`` is a star."""
    pieces, literal = [""], iter(wanted)
    for character in literal:
        if character == "\\":
            pieces[-1] += next(literal, "\\")
        elif character == "*":
            pieces.append("")
        else:
            pieces[-1] += character
    if len(pieces) == 1:
        return value == pieces[0]
    first, *middle, last = pieces
    if not value.startswith(first) or not value.endswith(last):
        return False
    at, end = len(first), len(value) - len(last)
    for piece in middle:
        found = value.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end


def _inside(value: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


_TEXT: Mapping[str, Callable[[str, Any], bool]] = {
    "prefix": _affix(str.startswith),
    "suffix": _affix(str.endswith),
    "equals-ignore-case": lambda value, wanted: value.casefold() == wanted.casefold(),
    "wildcard": _wild,
    "cidr": _inside,
}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same_number(one: Any, other: Any) -> bool:
    return _number(one) and _number(other) and one == other


def _check(text: str, document: Any, depth: int) -> None:
    if not isinstance(document, dict) or depth > _MAX_DEPTH:
        raise _wrong(text, type(document).__name__, "an object of objects and lists")
    for key, rule in document.items():
        if key == _OR and isinstance(rule, list):
            if not _PAIR <= len(rule) <= _MAX_OR:
                raise _wrong(text, f"$or of {len(rule)}", "two or more")
            for each in rule:
                _check(text, each, depth + 1)
        elif isinstance(rule, dict):
            _check(text, rule, depth + 1)
        elif not isinstance(rule, list) or not rule:
            raise _wrong(text, f"{key}: {json.dumps(rule)[:40]}", "a list of values or rules")
        elif not all(_rule(each) for each in rule):
            raise _wrong(text, f"{key}: {json.dumps(rule)[:80]}", "values or rules of EventBridge")


def _rule(rule: Any) -> bool:
    """Return whether a rule is well formed."""
    if not isinstance(rule, dict):
        return not isinstance(rule, list)
    if len(rule) != 1:
        return False
    ((name, wanted),) = rule.items()
    return name in _WELL_FORMED and _WELL_FORMED[name](wanted)


def _text(wanted: Any) -> bool:
    return isinstance(wanted, str)


def _affixed(wanted: Any) -> bool:
    alone = isinstance(wanted, dict) and wanted.keys() == {"equals-ignore-case"}
    return _text(wanted["equals-ignore-case"] if alone else wanted)


def _bounds(wanted: Any) -> bool:
    if not isinstance(wanted, list) or not wanted or len(wanted) % _PAIR:
        return False
    signs, bounds = wanted[::2], wanted[1::2]
    return all(sign in _COMPARE for sign in signs if isinstance(sign, str)) and all(
        isinstance(sign, str) and _number(bound) for sign, bound in zip(signs, bounds, strict=True)
    )


def _exclusion(wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        several = wanted if isinstance(wanted, list) else [wanted]
        return bool(several) and all(isinstance(each, str) or _number(each) for each in several)
    if len(wanted) != 1:
        return False
    ((name, inside),) = wanted.items()
    several = inside if isinstance(inside, list) else [inside]
    return bool(several) and all(name in _TEXT and _rule({name: each}) for each in several)


def _network(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


_WELL_FORMED: Mapping[str, Callable[[Any], bool]] = {
    "exists": lambda wanted: isinstance(wanted, bool),
    "numeric": _bounds,
    "anything-but": _exclusion,
    "prefix": _affixed,
    "suffix": _affixed,
    "equals-ignore-case": _text,
    "wildcard": _text,
    "cidr": _network,
}


def _wrong(text: str, found: str, expected: str) -> InvalidParameter:
    return InvalidParameter(
        f"Invalid filter pattern definition {text[:100]!r}: {found}, expected {expected}"
    )
