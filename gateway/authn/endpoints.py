"""Keys in the admin API: listed, made, rotated and revoked."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from gateway.admin import asked
from gateway.admin.endpoint import ACTOR, NOTED, CurrentWorld, Endpoint, Role
from gateway.authn import described, owned
from gateway.authn.described import NewKey, Rotation
from gateway.authn.directory import Directory, Party
from gateway.authn.keydesk import KeyDesk
from gateway.authn.owned import TooManyKeys
from gateway.authn.shownkey import shown
from gateway.authn.uses import last_used
from gateway.keyring import DeadKey, Grant, UnknownKey
from gateway.keys import DEFAULT_APP, Key
from gateway.problem import Refused
from wherry.clock import Clock
from wherry.model.resource import seconds
from wherry.store import Store

_MOST_BYTES = 1 << 14


def endpoints(store: Store, pepper: bytes, world: CurrentWorld, clock: Clock) -> list[Endpoint]:
    """Return the operations on keys.

    Args:
        store: Where keys are.
        pepper: See `gateway.pepper`.
        world: Says which consumers and apps there are.
        clock: Where the time is read.
    """
    each = _Keys(store, pepper, world, clock)
    of_consumer = "/v1/consumers/{consumer}/keys"
    rotate = "/v1/keys/{prefix}/rotate"
    return [
        Endpoint("GET", of_consumer, Role.VIEWER, each.listed, described.LIST),
        Endpoint("POST", of_consumer, Role.EDITOR, each.create, described.CREATE, _MOST_BYTES),
        Endpoint("DELETE", "/v1/keys/{prefix}", Role.EDITOR, each.revoke, described.REVOKE),
        Endpoint("POST", rotate, Role.EDITOR, each.rotate, described.ROTATE, _MOST_BYTES),
    ]


class _Keys:
    def __init__(self, store: Store, pepper: bytes, world: CurrentWorld, clock: Clock) -> None:
        self._store, self._pepper, self._world, self._clock = store, pepper, world, clock
        self._desk = KeyDesk(store, clock)

    async def listed(self, request: web.Request) -> web.Response:
        asked.query(request)
        consumer = self._consumer(request)
        found: Sequence[Key] = await owned.keys_of(self._store, consumer)
        used, now = await last_used(self._store), self._clock.unix_ns()
        items = [shown(key, now, used.get(key.prefix)) for key in reversed(found)]
        return web.json_response({"items": items})

    async def create(self, request: web.Request) -> web.Response:
        asked.query(request)
        consumer = self._consumer(request)
        wanted = await asked.model(request, NewKey)
        now = self._clock.unix_ns()
        grant = Grant(
            app=wanted.app,
            scopes=None if wanted.scopes is None else frozenset(wanted.scopes),
            environment=wanted.environment,
            title=wanted.title,
            expires_ns=None if wanted.lasts is None else now + round(seconds(wanted.lasts) * 1e9),
        )
        self._check(consumer, grant)
        try:
            key, text = await self._desk.create(self._pepper, consumer, grant, actor=request[ACTOR])
        except TooManyKeys as error:
            raise _conflict(error) from None
        request[NOTED] = True
        return _made(shown(key, now), text)

    async def rotate(self, request: web.Request) -> web.Response:
        asked.query(request)
        wanted = await asked.model(request, Rotation)
        now, prefix = self._clock.unix_ns(), request.match_info["prefix"]
        ends = None if wanted.old_lasts is None else now + round(seconds(wanted.old_lasts) * 1e9)
        try:
            key, text = await self._desk.rotate(
                self._pepper, prefix, ends_ns=ends, actor=request[ACTOR]
            )
        except UnknownKey as error:
            raise _missing(error) from None
        except (TooManyKeys, DeadKey) as error:
            raise _conflict(error) from None
        request[NOTED] = True
        return _made(shown(key, now), text)

    async def revoke(self, request: web.Request) -> web.Response:
        asked.query(request)
        try:
            await self._desk.revoke(request.match_info["prefix"], actor=request[ACTOR])
        except UnknownKey as error:
            raise _missing(error) from None
        request[NOTED] = True
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _consumer(self, request: web.Request) -> str:
        name = request.match_info["consumer"]
        if name not in self._world().consumers:
            detail = f"consumer {name[:253]!r}: not found, expected one that is listed."
            raise Refused(HTTPStatus.NOT_FOUND, detail)
        return name

    def _check(self, consumer: str, grant: Grant) -> None:
        """Refuse a key for an app that there is not, or for more than the app may have."""
        apps = {app.name for app in self._world().consumers[consumer].spec.apps} | {DEFAULT_APP}
        if grant.app not in apps:
            known = ", ".join(sorted(apps))
            detail = f"app {consumer}/{grant.app}: not found, expected one of {known}."
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        directory = Directory.of({consumer: self._world().consumers[consumer]})
        may = directory.granted(Party(consumer, grant.app), None)
        if grant.scopes is not None and may is not None and not grant.scopes <= may:
            more, known = ", ".join(sorted(grant.scopes - may)), ", ".join(sorted(may))
            detail = f"app {consumer}/{grant.app}: scopes {more}, expected some of {known}."
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def _made(document: Mapping[str, object], text: str) -> web.Response:
    return web.json_response(
        {**document, "key": text},
        status=HTTPStatus.CREATED,
        headers={"Cache-Control": "no-store"},
    )


def _missing(error: UnknownKey) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, f"{error}.")


def _conflict(error: TooManyKeys | DeadKey) -> Refused:
    return Refused(HTTPStatus.CONFLICT, f"{error}.")
