"""What every request passes: who asks, whether they meant to, and how refusals are shown."""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.portal.layout import heading, page
from gateway.portal.markup import el
from gateway.portal.sessions import fresh_token
from gateway.portal.site import (
    SESSION_COOKIE,
    VISIT,
    VISIT_COOKIE,
    Site,
    Visit,
    fields,
    html,
    set_cookie,
)
from wherry.errors import WherryError
from wherry.web import Handler

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 60.0
"""Longest that a request may take, its body included."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def visits(site: Site) -> Middleware:
    """Return the middleware that finds out who asks, and refuses what others made them ask."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        visit = await _visit(site, request)
        request[VISIT] = visit
        if request.method not in {"GET", "HEAD"}:
            await _guarded(site, request, visit)
        answer = await handler(request)
        if visit.fresh:
            set_cookie(site, answer, VISIT_COOKIE, visit.cookie)
        return answer

    return checked


async def _visit(site: Site, request: web.Request) -> Visit:
    cookie = request.cookies.get(SESSION_COOKIE, "")
    session = await site.sessions.find(cookie) if cookie else None
    account = None if session is None else await site.accounts.get(session.account)
    if session is not None and account is not None:
        return Visit(cookie, account, session)
    stranger = request.cookies.get(VISIT_COOKIE, "")
    if len(stranger) == len(fresh := fresh_token()):
        return Visit(stranger)
    return Visit(fresh, fresh=True)


async def _guarded(site: Site, request: web.Request, visit: Visit) -> None:
    own = {f"http://{request.host}", f"https://{request.host}"}
    origin = request.headers.get("Origin")
    if origin not in own and origin is not None:
        raise web.HTTPForbidden(text="The form was sent from another site.")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise web.HTTPForbidden(text="The form was sent from another site.")
    given = request.headers.get("X-Guard") or (await fields(request)).get("guard", "")
    if visit.fresh or not site.sessions.guarded(visit.cookie, given):
        raise web.HTTPForbidden(text="The form is too old. Load the page again and send it anew.")


def failures(site: Site) -> Middleware:
    """Return the middleware that shows refusals as pages, and sets what every answer says."""

    @web.middleware
    async def shown(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await handler(request)
        except web.HTTPException as error:
            if error.status < 400:  # noqa: PLR2004
                answer = web.Response(status=error.status, headers=error.headers)
            else:
                answer = _failure(site, request, error)
        except (WherryError, TimeoutError):
            logger.exception("portal failed")
            text = "This cannot be done at the moment: try again soon."
            answer = _failure(site, request, web.HTTPServiceUnavailable(text=text))
        except Exception:
            logger.exception("portal failed")
            answer = _failure(site, request, web.HTTPInternalServerError(text="We failed."))
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    return shown


_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def _failure(site: Site, request: web.Request, error: web.HTTPException) -> web.Response:
    detail = error.text or ""
    if detail.startswith(f"{error.status}:"):
        detail = ""
    if VISIT not in request or "application/json" in request.headers.get("Accept", ""):
        answer = web.json_response({"detail": detail or error.reason}, status=error.status)
    else:
        frame = site.frame(request, error.reason)
        back = el("p", el("a", "Go to the products", href="/"))
        answer = html(page(frame, heading(error.reason, detail), back), status=error.status)
    for name in ("Retry-After", "Allow"):
        if name in error.headers:
            answer.headers[name] = error.headers[name]
    return answer
