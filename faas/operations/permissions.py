"""Who else may invoke a function: resource-based policies.

Source: AWS Lambda API Reference, AddPermission, RemovePermission, GetPolicy, PutResourcePolicy.
"""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.model.function import LATEST
from faas.model.policy import PREFIX, Policy
from faas.operations.names import Target, asked_for, present, target
from faas.operations.policies import Policies
from wherry.store import Store

_ACCOUNT = re.compile(r"\d{12}")
_IDENTITY = re.compile(r"arn:aws[a-z-]*:(iam|sts)::.*")
_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})
_DENIABLE: tuple[str | list[str], ...] = (
    "lambda:InvokeFunctionUrl",
    ["lambda:InvokeFunctionUrl"],
)
_BY_URL = ("lambda:InvokeFunctionUrl", "lambda:*", "*")
_CONDITIONS: Mapping[str, tuple[str, str]] = {
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
    "EventSourceToken": ("StringEquals", "lambda:EventSourceToken"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "InvokedViaFunctionUrl": ("Bool", "lambda:InvokedViaFunctionUrl"),
}
"""The condition that each parameter of AddPermission becomes."""


class PermissionOperations:
    """AddPermission, RemovePermission, GetPolicy and the newer operations on whole policies."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._policies = Policies(store, PREFIX, "GetPolicy")

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "AddPermission": self.add,
            "RemovePermission": self.remove,
            "GetPolicy": self.get,
            "PutResourcePolicy": self.put_policy,
            "GetResourcePolicy": self.get_policy,
            "DeleteResourcePolicy": self.delete_policy,
        }

    async def add(self, asked: Asked) -> Answered:
        """AddPermission."""
        about = asked_for(self._registry, asked)
        if about.qualified and about.qualifier == LATEST:
            raise InvalidParameter("We currently do not support adding policies for $LATEST.")
        if asked.get("FunctionUrlAuthType") and asked["Action"] not in _BY_URL:
            raise InvalidParameter(
                "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"
            )
        found = await present(self._registry, about)
        revision = asked.get("RevisionId")
        current = found.alias.revision if found.alias else found.function.revision
        if revision not in (None, current) and await self._policies.find(about.key) is None:
            raise self._policies.stale()
        _, text = await self._policies.add(about.key, _statement(asked, about), revision=revision)
        return Answered({"Statement": text})

    async def remove(self, asked: Asked) -> Answered:
        """RemovePermission."""
        about = asked_for(self._registry, asked)
        try:
            await present(self._registry, about)
        except ResourceNotFound:
            raise ResourceNotFound(f"No policy found for: {about.arn}") from None
        await self._policies.remove(
            about.key, asked["StatementId"], revision=asked.get("RevisionId")
        )
        return Answered()

    async def get(self, asked: Asked) -> Answered:
        """GetPolicy."""
        about = asked_for(self._registry, asked)
        await present(self._registry, about)
        policy = await self._policies.find(about.key)
        if policy is None:
            raise ResourceNotFound
        return Answered({"Policy": policy.text(), "RevisionId": policy.revision})

    async def put_policy(self, asked: Asked) -> Answered:
        """PutResourcePolicy: a whole policy at once, denials included."""
        about = await self._resource(asked)
        policy = Policy(str(uuid.uuid4()), _statements(asked["Policy"], about))
        await self._policies.put(about.key, policy, revision=asked.get("RevisionId"))
        return Answered({"Policy": policy.text(), "RevisionId": policy.revision})

    async def get_policy(self, asked: Asked) -> Answered:
        """GetResourcePolicy."""
        about = await self._resource(asked)
        policy = await self._policies.find(about.key)
        if policy is None:
            raise ResourceNotFound
        return Answered({"Policy": policy.text(), "RevisionId": policy.revision})

    async def delete_policy(self, asked: Asked) -> Answered:
        """DeleteResourcePolicy."""
        about = await self._resource(asked)
        await self._policies.clear(about.key, revision=asked.get("RevisionId"))
        return Answered()

    async def _resource(self, asked: Asked) -> Target:
        arn = asked["ResourceArn"]
        if ":function:" not in arn:
            raise InvalidParameter(
                f"ResourceArn {arn[:200]}: policies of runtimes are not supported by Wherry, "
                "expected the ARN of a function, a version or an alias"
            )
        about = target(self._registry, arn)
        await present(self._registry, about)
        return about


def _statement(asked: Asked, about: Target) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": asked["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(asked["Principal"]),
        "Action": asked["Action"],
        "Resource": about.arn,
    }
    condition: dict[str, dict[str, str]] = {}
    for name, (operator, key) in _CONDITIONS.items():
        value = asked.get(name)
        if value is not None:
            text = str(value).lower() if isinstance(value, bool) else value
            condition.setdefault(operator, {})[key] = text
    return statement | {"Condition": condition} if condition else statement


def _principal(text: str) -> str | dict[str, str]:
    """Return a principal as a policy spells it.

    Raises:
        InvalidParameter: It is none.
    """
    if text == "*":
        return text
    if text.endswith((".amazonaws.com", ".amazon.com")):
        return {"Service": text}
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    if _IDENTITY.fullmatch(text):
        return {"AWS": text}
    raise InvalidParameter(
        "The provided principal was invalid. Please check the principal and try again."
    )


def _statements(text: str, about: Target) -> tuple[dict[str, Any], ...]:
    """Return the statements of a policy document, checked.

    Raises:
        InvalidParameter: It is none, or one of its statements is not about the function.
    """
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidParameter("Policy: found no JSON of UTF-8, expected a document") from None
    found = document.get("Statement") if isinstance(document, dict) else None
    many: list[Any] = found if isinstance(found, list) else [found]
    for statement in many:
        if not isinstance(statement, dict) or not _is_sound(statement, about):
            raise InvalidParameter(
                "Policy: each statement needs Effect (Allow or Deny), Principal, Action and "
                f"Resource {about.arn}, may have Sid and Condition, and nothing else"
            )
        if statement["Effect"] == "Deny" and statement["Action"] not in _DENIABLE:
            raise InvalidParameter(
                f"Policy: Deny of {str(statement['Action'])[:80]} would have no effect here, "
                f"expected {_DENIABLE[0]}: policies decide about function URLs, keys about the API"
            )
    return tuple(cast("list[dict[str, Any]]", many))


def _is_sound(statement: Mapping[str, Any], about: Target) -> bool:
    return (
        _ELEMENTS.issuperset(statement)
        and isinstance(statement.get("Sid", ""), str)
        and statement.get("Effect") in ("Allow", "Deny")
        and statement.get("Resource") in (about.arn, [about.arn])
        and (statement.get("Principal") == "*" or _is_table(statement.get("Principal")))
        and _is_plain(statement.get("Action"))
        and all(map(_is_table, _entries(statement.get("Condition", {}))))
    )


def _entries(value: Any) -> list[Any]:
    """Return the values of a table; None alone of what is none."""
    return list(cast("dict[str, Any]", value).values()) if isinstance(value, dict) else [None]


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_plain, _entries(value)))


def _is_plain(value: Any) -> bool:
    """Return whether a value is a text, a number, a truth value or a list of such."""
    many: list[Any] = value if isinstance(value, list) else [value]
    return all(isinstance(one, str | int | float) for one in many)
