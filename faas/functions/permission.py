"""Whether a resource-based policy lets somebody do something. Pure.

Source: IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements". What is not
understood never lets anybody in: a statement that allows does not apply then, one that denies does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from faas.model.policy import Statement

_ACCOUNT = re.compile(r"\d{12}")
_ROOT = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):root")
_OF_ACCOUNT = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::(\d{12}):.+")
_ASSUMED = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+")
_ARN_PARTS = 6
_KNOWN = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})


def allows(
    statements: Sequence[Statement],
    action: str,
    principal: str,
    context: Mapping[str, str],
) -> bool:
    """Return whether some statement allows and none denies.

    Args:
        statements: Of the policy about what is used; their resources are not looked at.
        action: ``lambda:InvokeFunctionUrl``.
        principal: ARN of a user, a role or a session, a service as ``events.amazonaws.com``;
            empty: nobody in particular, whom only the principal ``*`` means.
        context: Condition keys (``lambda:FunctionUrlAuthType``), in any case, and their values.
    """
    keys = {key.lower(): value for key, value in context.items()}
    request = (action, principal, keys)
    if any(_applies(one, *request, unclear=True) for one in statements if _denies(one)):
        return False
    return any(_applies(one, *request, unclear=False) for one in statements if not _denies(one))


def _denies(statement: Statement) -> bool:
    return statement.get("Effect") != "Allow"


def _applies(
    statement: Statement,
    action: str,
    principal: str,
    context: Mapping[str, str],
    *,
    unclear: bool,
) -> bool:
    """Return whether a statement is about a request; ``unclear`` where nobody can tell."""
    if not _KNOWN.issuperset(statement):
        return unclear
    actions = _texts(statement.get("Action"))
    if not any(like(one.lower(), action.lower()) for one in actions):
        return False
    if not _is_meant(statement.get("Principal"), principal):
        return False
    held = _conditions(statement.get("Condition") or {}, context)
    return all(unclear if one is None else one for one in held)


def _conditions(conditions: object, context: Mapping[str, str]) -> list[bool | None]:
    """Return for each condition whether it holds, None where nobody can tell."""
    if not isinstance(conditions, dict):
        return [None]
    held: list[bool | None] = []
    for operator, tests in cast("dict[str, Any]", conditions).items():
        if not isinstance(tests, dict):
            held.append(None)
            continue
        for key, values in cast("dict[str, Any]", tests).items():
            held.append(_holds(operator, key, _texts(values), context))
    return held


def _is_meant(meant: object, principal: str) -> bool:
    if meant == "*":
        return True
    if not isinstance(meant, dict):
        return False
    kinds = cast("dict[str, Any]", meant)
    if "*" in _texts(kinds.get("AWS")):
        return True
    if principal and principal in _texts(kinds.get("Service")):
        return True
    return any(_is_same(one, principal) for one in _texts(kinds.get("AWS")))


def _is_same(named: str, principal: str) -> bool:
    """Return whether ``named`` in a policy means ``principal``; an account means all in it."""
    if named == principal:
        return bool(principal)
    account = named if _ACCOUNT.fullmatch(named) else ""
    if root := _ROOT.fullmatch(named):
        account = root[1]
    if account:
        found = _OF_ACCOUNT.fullmatch(principal)
        return found is not None and found[1] == account
    assumed = _ASSUMED.fullmatch(principal)
    if assumed is None or ":role/" not in named:
        return False
    prefix = f"arn:{assumed[1]}:iam::{assumed[2]}:role/"
    return named.startswith(prefix) and named.rpartition("/")[2] == assumed[3]


def _holds(
    operator: str, key: str, values: Sequence[str], context: Mapping[str, str]
) -> bool | None:
    """Return whether a condition holds, None when the operator is not known here."""
    found = context.get(key.lower())
    if operator == "Null":
        return any((found is None) == (one.lower() == "true") for one in values)
    name = operator.removesuffix("IfExists")
    negated = name in _NEGATED
    test = _TESTS.get(_NEGATED.get(name, name))
    if test is None:
        return None
    if found is None:
        return negated or name != operator
    return any(test(one, found) for one in values) != negated


def like(pattern: str, text: str) -> bool:
    """Return whether ``text`` is as ``pattern`` says: ``*`` any characters, ``?`` one.

    Takes time in proportion to both lengths multiplied, whatever the pattern.
    """
    at, read, star, resume = 0, 0, -1, 0
    while read < len(text):
        char = pattern[at] if at < len(pattern) else ""
        if char == "*":
            star, resume = at, read
            at += 1
        elif char and char in ("?", text[read]):
            at += 1
            read += 1
        elif star >= 0:
            resume += 1
            at, read = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")


def _arn_like(pattern: str, text: str) -> bool:
    patterns, texts = (one.split(":", _ARN_PARTS - 1) for one in (pattern, text))
    if pattern == "*":
        return True
    return len(patterns) == len(texts) == _ARN_PARTS and all(map(like, patterns, texts))


def _texts(value: object) -> list[str]:
    """Return one text or many as many; a boolean or a number as IAM spells it."""
    many = value if isinstance(value, list) else [] if value is None else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in many]


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda one, found: one == found,
    "StringEqualsIgnoreCase": lambda one, found: one.lower() == found.lower(),
    "StringLike": like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda one, found: one.lower() == found.lower(),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
