"""Function URLs: which functions have one and what it lets in.

Source: AWS Lambda API Reference, CreateFunctionUrlConfig and the operations around it.
"""

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, ResourceConflict, ResourceNotFound
from faas.model.moment import zulu
from faas.model.url import PREFIX, Cors, FunctionUrl
from faas.operations.names import Target, asked_for, existing, whole
from faas.operations.paging import page
from faas.records import Records
from wherry.clock import Clock
from wherry.store import Conflict

_ABSENT = "Function does not exist"
_LETTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 32
_METHODS = ("GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*")


class UrlOperations:
    """CreateFunctionUrlConfig and the rest of its kind.

    Args:
        registry: Where functions are found.
        clock: For the time of changes.
        address: Returns the URL under which the one with that id is served.
    """

    def __init__(self, registry: Registry, clock: Clock, address: Callable[[str], str]) -> None:
        self._registry = registry
        self._clock = clock
        self._address = address
        self._records = Records(registry.store, PREFIX, FunctionUrl)

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "CreateFunctionUrlConfig": self.create,
            "GetFunctionUrlConfig": self.get,
            "UpdateFunctionUrlConfig": self.update,
            "DeleteFunctionUrlConfig": self.delete,
            "ListFunctionUrlConfigs": self.list,
        }

    async def create(self, asked: Asked) -> Answered:
        """CreateFunctionUrlConfig."""
        about = await existing(self._registry, asked, absent=_ABSENT)
        now = zulu(self._clock.unix_ns())
        value = FunctionUrl(
            function=about.name,
            qualifier=about.qualifier,
            id="".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH)),
            auth=asked["AuthType"],
            created=now,
            modified=now,
            mode=asked.get("InvokeMode", "BUFFERED"),
            cors=_cors(asked.get("Cors")),
        )
        try:
            await self._records.put(about.key, value, expect=0)
        except Conflict:
            raise ResourceConflict(
                f"Failed to create function url config for [functionArn = {about.arn}]. Error "
                "message:  FunctionUrlConfig exists for this Lambda function"
            ) from None
        return Answered(self._shape(value, about))

    async def get(self, asked: Asked) -> Answered:
        """GetFunctionUrlConfig."""
        about = asked_for(self._registry, asked)
        found = await self._records.get(about.key)
        if found is None:
            raise ResourceNotFound
        return Answered(self._shape(found, about))

    async def update(self, asked: Asked) -> Answered:
        """UpdateFunctionUrlConfig."""
        about = await existing(self._registry, asked, absent=_ABSENT)
        fields = {
            "auth": asked.get("AuthType"),
            "mode": asked.get("InvokeMode"),
            "cors": _cors(asked.get("Cors")),
        }
        changes: dict[str, Any] = {name: value for name, value in fields.items() if value}
        changes["modified"] = zulu(self._clock.unix_ns())

        def changed(found: FunctionUrl | None) -> FunctionUrl:
            if found is None:
                raise ResourceNotFound
            return replace(found, **changes)

        return Answered(self._shape(await self._records.change(about.key, changed), about))

    async def delete(self, asked: Asked) -> Answered:
        """DeleteFunctionUrlConfig."""
        about = asked_for(self._registry, asked)
        if not await self._records.delete(about.key):
            raise ResourceNotFound
        return Answered()

    async def list(self, asked: Asked) -> Answered:
        """ListFunctionUrlConfigs."""
        try:
            about = await whole(self._registry, asked)
        except ResourceNotFound:
            raise ResourceNotFound(_ABSENT) from None
        values, more = page(await self._records.under(f"{about.name}/"), asked)
        shapes = [self._shape(one, about) for one in values]
        return Answered({"FunctionUrlConfigs": shapes, **more})

    def _shape(self, value: FunctionUrl, about: Target) -> dict[str, Any]:
        arn = f"{about.base}:{value.qualifier}" if value.qualifier != "$LATEST" else about.base
        shape: dict[str, Any] = {
            "FunctionUrl": self._address(value.id),
            "FunctionArn": arn,
            "AuthType": value.auth,
            "InvokeMode": value.mode,
            "CreationTime": value.created,
            "LastModifiedTime": value.modified,
        }
        return shape if value.cors is None else shape | {"Cors": _cors_shape(value.cors)}


def _cors(sent: Mapping[str, Any] | None) -> Cors | None:
    """Return the Cors of a request, checked; None when there is none.

    Raises:
        InvalidParameter: A method is none that can be allowed.
    """
    if sent is None:
        return None
    methods = tuple(sent.get("AllowMethods") or ())
    for method in methods:
        if method not in _METHODS:
            raise InvalidParameter(
                f"1 validation error detected: Value '{method}' at 'cors.allowMethods' failed to "
                f"satisfy constraint: Member must satisfy enum value set: [{', '.join(_METHODS)}]"
            )
    return Cors(
        allow_credentials=sent.get("AllowCredentials"),
        allow_headers=tuple(sent.get("AllowHeaders") or ()),
        allow_methods=methods,
        allow_origins=tuple(sent.get("AllowOrigins") or ()),
        expose_headers=tuple(sent.get("ExposeHeaders") or ()),
        max_age=sent.get("MaxAge") or 0,
    )


def _cors_shape(cors: Cors) -> dict[str, Any]:
    lists = {
        "AllowHeaders": cors.allow_headers,
        "AllowMethods": cors.allow_methods,
        "AllowOrigins": cors.allow_origins,
        "ExposeHeaders": cors.expose_headers,
    }
    shape: dict[str, Any] = {name: list(values) for name, values in lists.items() if values}
    if cors.allow_credentials is not None:
        shape["AllowCredentials"] = cors.allow_credentials
    return shape | ({"MaxAge": cors.max_age} if cors.max_age else {})
