"""Resource-based policies in the Store: statements added and removed one by one."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from faas.lambda_errors import (
    PolicyTooLong,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from faas.model.policy import MAX_POLICY, Policy
from faas.records import Records
from wherry.store import Conflict, Store

_NONE = "No policy is associated with the given resource."


class Policies:
    """The policies of one kind of resource, each under the key of the resource.

    Args:
        store: Where they are kept.
        prefix: See `faas.model.policy`.
        reader: Name of the operation that tells callers a policy's revision.
    """

    def __init__(self, store: Store, prefix: str, reader: str) -> None:
        self._store = store
        self._prefix = prefix
        self._reader = reader
        self._records = Records(store, prefix, Policy)

    async def find(self, key: str) -> Policy | None:
        """Return a resource's policy, or None when nobody was permitted anything."""
        return await self._records.get(key)

    async def add(
        self, key: str, statement: Mapping[str, Any], *, revision: str | None = None
    ) -> tuple[Policy, str]:
        """Add a statement.

        Args:
            key: Of the resource.
            statement: With a ``Sid`` that no other has.
            revision: When given, what the policy, if there is one, must be at.

        Returns:
            The policy, and the statement as JSON.

        Raises:
            ResourceConflict: There is a statement of that id.
            PreconditionFailed: The policy is at another revision.
            PolicyTooLong: The policy would be over its limit.
        """

        def added(policy: Policy | None) -> Policy:
            if policy is not None and revision and policy.revision != revision:
                raise self.stale()
            statements = policy.statements if policy else ()
            if any(one.get("Sid") == statement["Sid"] for one in statements):
                raise ResourceConflict(
                    f"The statement id ({statement['Sid']}) provided already exists. Please "
                    "provide a new statement id, or remove the existing statement."
                )
            return checked(Policy(str(uuid.uuid4()), (*statements, dict(statement))))

        policy = await self._records.change(key, added)
        return policy, json.dumps(statement, separators=(",", ":"))

    async def put(self, key: str, policy: Policy, *, revision: str | None = None) -> None:
        """Replace a whole policy.

        Raises:
            PreconditionFailed: It is not at ``revision``.
            PolicyTooLong: It would be over its limit.
        """

        def replaced(found: Policy | None) -> Policy:
            if revision and (found is None or found.revision != revision):
                raise self.stale()
            return checked(policy)

        await self._records.change(key, replaced)

    async def remove(self, key: str, sid: str, *, revision: str | None = None) -> None:
        """Remove a statement, and the policy with its last one.

        Raises:
            ResourceNotFound: There is no policy or no such statement.
            PreconditionFailed: The policy is not at ``revision``.
        """

        def without(policy: Policy) -> Policy:
            left = tuple(one for one in policy.statements if one.get("Sid") != sid)
            if len(left) == len(policy.statements):
                raise ResourceNotFound(f"Statement {sid} is not found in resource policy.")
            return replace(policy, revision=str(uuid.uuid4()), statements=left)

        await self._less(key, without, revision)

    async def clear(self, key: str, *, revision: str | None = None) -> None:
        """Remove a whole policy.

        Raises:
            ResourceNotFound: There is none.
            PreconditionFailed: It is not at ``revision``.
        """
        await self._less(key, lambda policy: replace(policy, statements=()), revision)

    async def _less(
        self, key: str, change: Callable[[Policy], Policy], revision: str | None
    ) -> None:
        """Change a policy, again if another was quicker; without statements it goes."""
        while True:
            found = await self._records.at(key)
            if found is None:
                raise ResourceNotFound(_NONE)
            if revision and found[0].revision != revision:
                raise self.stale()
            changed = change(found[0])
            try:
                if changed.statements:
                    await self._records.put(key, changed, expect=found[1])
                else:
                    await self._store.delete(self._prefix + key, expect=found[1])
            except Conflict:
                continue
            return

    def stale(self) -> PreconditionFailed:
        """Return the error for a revision that is not the newest."""
        return PreconditionFailed(
            "The Revision Id provided does not match the latest Revision Id. "
            f"Call the {self._reader} API to retrieve the latest Revision Id"
        )


def checked(policy: Policy) -> Policy:
    """Return ``policy`` when it is not too long.

    Raises:
        PolicyTooLong: It is.
    """
    size = len(policy.text().encode())
    if size > MAX_POLICY:
        raise PolicyTooLong(size, MAX_POLICY)
    return policy
