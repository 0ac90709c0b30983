"""Keys in the admin API: listed, made, rotated and revoked."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from aiohttp import web
from pydantic import Field

from gateway import keyring
from gateway.admin import asked, described
from gateway.admin.endpoint import NOTE, Endpoint, Role
from gateway.authn import owned
from gateway.authn.directory import Directory, Party
from gateway.authn.owned import TooManyKeys
from gateway.authn.shownkey import shown
from gateway.authn.uses import last_used
from gateway.keyring import DeadKey, Grant, UnknownKey
from gateway.keys import DEFAULT_APP, Key
from gateway.problem import Refused
from wherry.clock import Clock
from wherry.model.product import Scope
from wherry.model.resource import Duration, Name, Strict, seconds
from wherry.model.world import World
from wherry.store import Store

CurrentWorld = Callable[[], World]
"""Returns the configuration in force."""

_MOST_BYTES = 1 << 14
_TIME = {"type": "string", "format": "date-time"}
_KEY: Mapping[str, object] = {
    "type": "object",
    "required": ["prefix", "consumer", "app", "title", "state", "created"],
    "properties": {
        "prefix": {"type": "string", "pattern": "^[a-z2-7]{8}$"},
        "consumer": {"type": "string"},
        "app": {"type": "string"},
        "title": {"type": "string"},
        "scopes": {"type": ["array", "null"], "items": {"type": "string"}},
        "environment": {"type": ["string", "null"]},
        "state": {"enum": ["active", "revoked", "expired"]},
        "created": _TIME,
        "expires": {**_TIME, "type": ["string", "null"]},
        "revoked": {**_TIME, "type": ["string", "null"]},
        "lastUsed": {**_TIME, "type": ["string", "null"]},
        "key": {"type": "string", "description": "The whole key, shown only when it is made."},
    },
}


class NewKey(Strict):
    """A key to be made.

    Attributes:
        app: Of the consumer.
        scopes: What it is granted; None is everything that the app may have.
        environment: The only one it counts in; None is every one.
        title: Whatever its owner calls it.
        lasts: How long it is accepted; None is without end.
    """

    app: Name = DEFAULT_APP
    scopes: list[Scope] | None = Field(default=None, max_length=256)
    environment: Name | None = None
    title: str = Field(default="", max_length=200)
    lasts: Duration | None = None


class Rotation(Strict):
    """How a key is replaced.

    Attributes:
        old_lasts: How long the old key is still accepted; None is as long as it was.
    """

    old_lasts: Duration | None = None


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
    shown = described.body(_KEY, "The key, with its text, which is not shown again.")
    listing = {
        "operationId": "listKeys",
        "summary": "Keys of a consumer, newest first, without what is secret about them",
        "tags": ["keys"],
        "responses": {
            "200": described.body(
                {
                    "type": "object",
                    "required": ["items"],
                    "properties": {"items": {"type": "array", "items": _KEY}},
                }
            )
        },
    }
    making = {
        "operationId": "createKey",
        "summary": "Make a key; its text is shown this once",
        "tags": ["keys"],
        "requestBody": described.given(_schema(NewKey)),
        "responses": {"201": shown},
    }
    rotating = {
        "operationId": "rotateKey",
        "summary": "Make the key that takes the place of this one; both are accepted meanwhile",
        "tags": ["keys"],
        "requestBody": described.given(_schema(Rotation)),
        "responses": {"201": shown},
    }
    revoking = {
        "operationId": "revokeKey",
        "summary": "Stop accepting a key, at once",
        "tags": ["keys"],
        "responses": {"204": {"description": "It is accepted no more."}},
    }
    rotate = "/v1/keys/{prefix}/rotate"
    return [
        Endpoint("GET", of_consumer, Role.VIEWER, each.listed, listing),
        Endpoint("POST", of_consumer, Role.EDITOR, each.create, making, _MOST_BYTES),
        Endpoint("DELETE", "/v1/keys/{prefix}", Role.EDITOR, each.revoke, revoking),
        Endpoint("POST", rotate, Role.EDITOR, each.rotate, rotating, _MOST_BYTES),
    ]


class _Keys:
    def __init__(self, store: Store, pepper: bytes, world: CurrentWorld, clock: Clock) -> None:
        self._store, self._pepper, self._world, self._clock = store, pepper, world, clock

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
            key, text = await keyring.create(
                self._store, self._pepper, consumer, now_ns=now, grant=grant
            )
        except TooManyKeys as error:
            raise _conflict(error) from None
        request[NOTE] = (f"key/{key.prefix}", None, shown(key, now))
        return _made(shown(key, now), text)

    async def rotate(self, request: web.Request) -> web.Response:
        asked.query(request)
        wanted = await asked.model(request, Rotation)
        now, prefix = self._clock.unix_ns(), request.match_info["prefix"]
        ends = None if wanted.old_lasts is None else now + round(seconds(wanted.old_lasts) * 1e9)
        try:
            old = await keyring.found(self._store, prefix)
            key, text = await keyring.rotate(
                self._store, self._pepper, prefix, now_ns=now, ends_ns=ends
            )
            ending = await keyring.found(self._store, prefix)
        except UnknownKey as error:
            raise _missing(error) from None
        except (TooManyKeys, DeadKey) as error:
            raise _conflict(error) from None
        after = {"old": shown(ending, now), "new": shown(key, now)}
        request[NOTE] = (f"key/{prefix}", shown(old, now), after)
        return _made(shown(key, now), text)

    async def revoke(self, request: web.Request) -> web.Response:
        asked.query(request)
        now, prefix = self._clock.unix_ns(), request.match_info["prefix"]
        try:
            before = await keyring.found(self._store, prefix)
            after = await keyring.revoke(self._store, prefix, now_ns=now)
        except UnknownKey as error:
            raise _missing(error) from None
        request[NOTE] = (f"key/{before.prefix}", shown(before, now), shown(after, now))
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


def _schema(form: type[Strict]) -> Mapping[str, object]:
    return form.model_json_schema(by_alias=True)


def _missing(error: UnknownKey) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, f"{error}.")


def _conflict(error: TooManyKeys | DeadKey) -> Refused:
    return Refused(HTTPStatus.CONFLICT, f"{error}.")
