"""Endpoints of the catalogue: products, plans, consumers, subscriptions, and the gateway itself."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus

from aiohttp import web

from gateway.admin import asked, described
from gateway.admin.endpoint import ACTOR, NOTED, ROLE, Endpoint, Role
from gateway.problem import Refused
from wherry.audit import HIDDEN, redacted
from wherry.config.stored import KINDS, Absent, Change, Declared, Doc, Held, differences
from wherry.resources import MAX_CHANGES, Resources

PATHS: Mapping[str, str] = {
    "products": "ApiProduct",
    "plans": "Plan",
    "consumers": "Consumer",
    "subscriptions": "Subscription",
    "gateways": "ApiGateway",
}
"""Kinds by what their path is called."""

MAX_APPLIED = 16 << 20
"""Most bytes of one ``apply``."""


def endpoints(resources: Resources) -> list[Endpoint]:
    """Return the operations on ``resources``."""
    found: list[Endpoint] = []
    for path, kind in PATHS.items():
        each = _OfKind(resources, path, kind)
        of = partial(described.of_kind, kind=kind)
        found += [
            Endpoint("GET", f"/v1/{path}", Role.VIEWER, each.list, of("list")),
            Endpoint("GET", f"/v1/{path}/{{name}}", Role.VIEWER, each.get, of("get")),
            Endpoint("PUT", f"/v1/{path}/{{name}}", Role.EDITOR, each.put, of("put")),
            Endpoint("DELETE", f"/v1/{path}/{{name}}", Role.EDITOR, each.delete, of("delete")),
        ]
    many = _Many(resources)
    return [
        *found,
        Endpoint("POST", "/v1/apply", Role.EDITOR, many.apply, described.APPLY, MAX_APPLIED),
        Endpoint("GET", "/v1/export", Role.VIEWER, many.export, described.EXPORT),
    ]


class _OfKind:
    def __init__(self, resources: Resources, path: str, kind: str) -> None:
        self._resources, self._path, self._kind = resources, path, kind

    async def list(self, request: web.Request) -> web.Response:
        asked.query(request, "limit", "cursor")
        after, limit = asked.page(request)
        held = await self._resources.list(self._kind, after=after, limit=limit + 1)
        shown, cursor = asked.cut(held, limit, lambda each: each.name)
        answer: dict[str, object] = {"items": [_item(each, request) for each in shown]}
        headers = {}
        if cursor is not None:
            target = f"/v1/{self._path}?cursor={cursor}&limit={limit}"
            headers["Link"] = f'<{target}>; rel="next"'
            answer["next"] = cursor
        return web.json_response(answer, headers=headers)

    async def get(self, request: web.Request) -> web.Response:
        asked.query(request)
        held = await self._held(request)
        if held is None:
            raise Absent((self._kind, _name(request)))
        tag, none = _tag(held), request.headers.get("If-None-Match")
        headers = {"ETag": tag} | ({"Wherry-Origin": held.origin} if held.origin else {})
        if none is not None and asked.matches(none, tag, weak=True):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        return web.json_response(_visible(held.document, request), headers=headers)

    async def put(self, request: web.Request) -> web.Response:
        asked.query(request)
        document, held = await asked.document(request), await self._held(request)
        named = document.get("metadata")
        if document.get("kind") != self._kind or not isinstance(named, Mapping):
            detail = f"The body is no {self._kind} with metadata."
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        if named.get("name") != _name(request):
            detail = "metadata.name is not the name in the path."
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        _shown_whole([document])
        revision = self._writable(held)
        expect = asked.expected(request, revision, needed=True)
        change = await self._resources.put(document, expect=expect, actor=request[ACTOR])
        request[NOTED] = True
        status = HTTPStatus.CREATED if change.verb == "create" else HTTPStatus.OK
        headers = {"ETag": asked.etag(change.revision)}
        if status is HTTPStatus.CREATED:
            headers["Location"] = f"/v1/{self._path}/{change.name}"
        return web.json_response(document, status=status, headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        asked.query(request)
        held = await self._held(request)
        revision = self._writable(held)
        expect = asked.expected(request, revision, needed=False)
        await self._resources.delete(
            self._kind, _name(request), expect=expect, actor=request[ACTOR]
        )
        request[NOTED] = True
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _held(self, request: web.Request) -> Held | None:
        return await self._resources.get(self._kind, _name(request))

    def _writable(self, held: Held | None) -> int:
        if held is not None and held.origin is not None:
            raise Declared((held.kind, held.name), held.origin)
        return 0 if held is None else held.revision


class _Many:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def apply(self, request: web.Request) -> web.Response:
        asked.query(request, "prune", "dryRun")
        prune, dry_run = asked.flag(request, "prune"), asked.flag(request, "dryRun")
        changes = await self._resources.apply(
            _documents(await asked.document(request)),
            prune=prune,
            dry_run=dry_run,
            actor=request[ACTOR],
        )
        request[NOTED] = True
        return web.json_response({"dryRun": dry_run, "changes": [_told(each) for each in changes]})

    async def export(self, request: web.Request) -> web.Response:
        asked.query(request, "all")
        everything = asked.flag(request, "all")
        documents = [
            _visible(held.document, request)
            for kind in KINDS
            for held in await self._resources.list(kind)
            if everything or held.origin is None
        ]
        return web.json_response({"documents": documents})


def _documents(body: Mapping[str, object]) -> Sequence[Doc]:
    documents = body.get("documents")
    wrong = HTTPStatus.UNPROCESSABLE_ENTITY
    if set(body) != {"documents"} or not isinstance(documents, list):
        raise Refused(wrong, "Expected one member, documents, a list of resources.")
    if len(documents) > MAX_CHANGES:
        raise Refused(wrong, f"{len(documents)} documents, expected at most {MAX_CHANGES}.")
    if not all(isinstance(each, dict) for each in documents):
        raise Refused(wrong, "Expected each of documents to be an object.")
    _shown_whole(documents)
    return documents


def _shown_whole(documents: Sequence[Doc]) -> None:
    """Refuse what was read by a viewer: written back, it would overwrite secrets.

    Raises:
        Refused: A value is `HIDDEN`.
    """
    for document in documents:
        if HIDDEN in _values(document):
            detail = f"A value is {HIDDEN!r}: read it with the token of an editor to change it."
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def _values(value: object) -> Iterator[object]:
    match value:
        case Mapping():
            for inner in value.values():
                yield from _values(inner)
        case list():
            for inner in value:
                yield from _values(inner)
        case _:
            yield value


def _told(change: Change) -> dict[str, object]:
    return {
        "kind": change.kind,
        "name": change.name,
        "verb": change.verb,
        "differences": [
            {"pointer": each.pointer, "before": each.before, "after": each.after}
            for each in differences(change.before, change.after)
        ],
    }


def _item(held: Held, request: web.Request) -> dict[str, object]:
    return {
        "name": held.name,
        "etag": _tag(held),
        "origin": held.origin,
        "document": _visible(held.document, request),
    }


def _tag(held: Held) -> str:
    """Return the entity tag: of the revision, or of the content where a file has none."""
    if held.origin is None:
        return asked.etag(held.revision)
    text = json.dumps(held.document, sort_keys=True).encode()
    return f'"file-{hashlib.sha256(text).hexdigest()[:32]}"'


def _visible(document: Doc, request: web.Request) -> object:
    """Return what the asking role may see: a viewer sees no secrets."""
    return document if request[ROLE] >= Role.EDITOR else redacted(document)


def _name(request: web.Request) -> str:
    return request.match_info["name"]
