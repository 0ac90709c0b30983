"""What the admin API can do to traffic."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Self

from aiohttp import web
from pydantic import Field, model_validator

from gateway.admin import asked
from gateway.admin.endpoint import NOTE, Endpoint, Role
from gateway.admin.objects import Object, body, given
from gateway.traffic.cache import purges
from wherry.model.resource import Name, Strict
from wherry.store import Store

_MOST_BYTES = 4096


class Purge(Strict):
    """Kept answers that are to be forgotten: those that fit all that is given.

    Attributes:
        product: Of this product only.
        path_prefix: Whose path begins so, by whole segments.
        tag: Which the upstream gave this tag in ``Surrogate-Key`` or ``Cache-Tag``.
        everything: Must be true when nothing else is given.
    """

    product: Name | None = None
    path_prefix: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$", max_length=1024)] | None = None
    tag: Annotated[str, Field(pattern=r"^[\x21-\x2b\x2d-\x7e]{1,256}$")] | None = None
    everything: bool = False

    @model_validator(mode="after")
    def _something_or_everything(self) -> Self:
        given = any(each is not None for each in (self.product, self.path_prefix, self.tag))
        if given == self.everything:
            raise ValueError(
                "expected product, pathPrefix or tag, or else everything: true and none of them"
            )
        return self


_ORDER: Object = {
    "type": "object",
    "required": ["order"],
    "properties": {"order": {"type": "integer", "minimum": 1}},
}
_PURGE: Object = {
    "operationId": "purgeCache",
    "summary": "Forget kept answers, in every process of the gateway.",
    "tags": ["cache"],
    "requestBody": given(Purge.model_json_schema(by_alias=True)),
    "responses": {
        "202": body(_ORDER, "The order is written down; it is carried out within moments."),
    },
}


def endpoints(store: Store) -> Sequence[Endpoint]:
    """Return the operations on the gateway's traffic."""

    async def purge(request: web.Request) -> web.StreamResponse:
        asked.query(request)
        wanted = await asked.model(request, Purge)
        what = purges.Order(wanted.product, wanted.path_prefix, wanted.tag)
        number = await purges.order(store, what)
        request[NOTE] = ("cache", None, wanted.model_dump(by_alias=True, exclude_none=True))
        return web.json_response({"order": number}, status=HTTPStatus.ACCEPTED)

    return [Endpoint("POST", "/v1/cache/purge", Role.EDITOR, purge, _PURGE, most_bytes=_MOST_BYTES)]
