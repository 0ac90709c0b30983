"""Endpoints of tokens and of the audit log."""

from http import HTTPStatus
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from gateway.admin import asked, described, tokens
from gateway.admin.endpoint import NOTE, Endpoint, Role
from gateway.days import written
from wherry import audit
from wherry.audit import Entry
from wherry.clock import Clock
from wherry.model.resource import Duration, Strict, seconds
from wherry.store import Event, Store

_LIMIT = asked.number(1, asked.MAX_PAGE, asked.PAGE)
_AFTER = asked.number(0, 10**18 - 1, 0)


class NewToken(Strict):
    """What a token to be made is.

    Attributes:
        name: Of the token, and of who uses it in the audit log.
        role: What it may do.
        lasts: How long it is accepted, at most 99999h; None: until it is revoked.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    role: Literal["viewer", "editor", "owner"]
    lasts: Duration | None = None


def endpoints(store: Store, pepper: bytes, clock: Clock) -> list[Endpoint]:
    """Return the operations on tokens and on the audit log of ``store``."""
    each = _Access(store, pepper, clock)
    return [
        Endpoint("GET", "/v1/tokens", Role.OWNER, each.tokens, described.TOKENS),
        Endpoint("POST", "/v1/tokens", Role.OWNER, each.create, described.NEW_TOKEN, 1 << 14),
        Endpoint("DELETE", "/v1/tokens/{name}", Role.OWNER, each.revoke, described.REVOKE),
        Endpoint("GET", "/v1/audit", Role.OWNER, each.audit, described.AUDIT),
    ]


class _Access:
    def __init__(self, store: Store, pepper: bytes, clock: Clock) -> None:
        self._store, self._pepper, self._clock = store, pepper, clock

    async def tokens(self, request: web.Request) -> web.Response:
        asked.query(request, "limit", "cursor")
        after, limit = asked.page(request)
        found = [each for each in await tokens.listed(self._store) if each.name > after]
        shown, cursor = asked.cut(found, limit, lambda each: each.name)
        answer: dict[str, object] = {"items": [tokens.shown(each) for each in shown]}
        return web.json_response(answer | ({"next": cursor} if cursor else {}))

    async def create(self, request: web.Request) -> web.Response:
        asked.query(request)
        wanted = await asked.model(request, NewToken)
        now = self._clock.unix_ns()
        ends = None if wanted.lasts is None else now + int(seconds(wanted.lasts) * 1e9)
        token, text = await tokens.create(
            self._store,
            self._pepper,
            wanted.name,
            Role[wanted.role.upper()],
            now_ns=now,
            expires_ns=ends,
        )
        request[NOTE] = (f"token/{token.name}", None, tokens.shown(token))
        return web.json_response(
            {**tokens.shown(token), "token": text},
            status=HTTPStatus.CREATED,
            headers={"Cache-Control": "no-store"},
        )

    async def revoke(self, request: web.Request) -> web.Response:
        asked.query(request)
        token = await tokens.revoke(self._store, request.match_info["name"])
        request[NOTE] = (f"token/{token.name}", tokens.shown(token), None)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def audit(self, request: web.Request) -> web.Response:
        asked.query(request, "limit", "after")
        limit = asked.parameter(request, "limit", _LIMIT)
        after = asked.parameter(request, "after", _AFTER)
        events = await self._store.read(audit.LOG, after, limit=limit)
        last = events[-1].offset if events else after
        return web.json_response({"items": [_noted(each) for each in events], "next": str(last)})


def _noted(event: Event) -> dict[str, object]:
    entry = Entry.decode(event.body)
    return {
        "id": entry.id,
        "offset": event.offset,
        "time": written(entry.at_ns),
        "actor": entry.actor,
        "verb": entry.verb,
        "subject": entry.subject,
        "before": entry.before,
        "after": entry.after,
    }
