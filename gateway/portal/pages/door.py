"""Signing up, in and out."""

import logging
import math
from collections.abc import Mapping
from functools import partial
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway.portal.accounts import Account, Taken, faults
from gateway.portal.layout import button, entry, form, heading
from gateway.portal.markup import Html, el
from gateway.portal.parts import Unwell
from gateway.portal.password import MIN_PASSWORD
from gateway.portal.site import (
    SESSION_COOKIE,
    Site,
    fields,
    new_name,
    set_cookie,
    shown,
    to,
    visit_of,
)

logger = logging.getLogger(__name__)

_MAX_TITLE = 80


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [
        web.get("/sign-up", partial(_sign_up, site)),
        web.post("/sign-up", partial(_signed_up, site)),
        web.get("/sign-in", partial(_sign_in, site)),
        web.post("/sign-in", partial(_signed_in, site)),
        web.post("/sign-out", partial(_sign_out, site)),
    ]


async def _sign_up(site: Site, request: web.Request) -> web.StreamResponse:
    if visit_of(request).account is not None:
        raise web.HTTPSeeOther("/")
    return _sign_up_page(site, request, {}, {})


async def _signed_up(site: Site, request: web.Request) -> web.StreamResponse:
    given = await fields(request)
    wrong = _faults(given)
    if wrong:
        return _sign_up_page(site, request, given, wrong)
    peer, now = site.peer(request), site.clock.now()
    _may(site.sign_ups.wait(peer, now))
    site.sign_ups.failed(peer, now)
    try:
        account = await _made(site, given)
    except Taken:
        wrong = {"email": "There is an account with this address: sign in instead."}
        return _sign_up_page(site, request, given, wrong)
    except Unwell as error:
        return _sign_up_page(site, request, given, {"title": str(error)})
    logger.info("account made", extra={"consumer": account.consumer})
    return await _enter(site, account, to("/", "welcome"))


async def _sign_in(site: Site, request: web.Request) -> web.StreamResponse:
    return _sign_in_page(site, request, "", None)


async def _signed_in(site: Site, request: web.Request) -> web.StreamResponse:
    given = await fields(request)
    email, password = given.get("email", "").strip(), given.get("password", "")
    who, peer, now = site.accounts.id_of(email), site.peer(request), site.clock.now()
    _may(site.sign_ins.wait(who, peer, now))
    site.sign_ins.failed(who, peer, now)
    account = await site.accounts.signed_in(email, password)
    if account is None:
        fault = "This email address and password do not belong together."
        return _sign_in_page(site, request, email, fault)
    site.sign_ins.succeeded(who, peer)
    return await _enter(site, account, to(_back(request), "in"))


async def _sign_out(site: Site, request: web.Request) -> web.StreamResponse:
    session = visit_of(request).session
    if session is not None:
        await site.sessions.end(session)
    answer = to("/", "out")
    answer.del_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Strict")
    return answer


async def _made(site: Site, given: Mapping[str, str]) -> Account:
    """Make a consumer and the account that stands for it; both, or neither."""
    title, email = given["title"].strip(), given["email"].strip()
    if await site.accounts.get(site.accounts.id_of(email)) is not None:
        raise Taken
    name = new_name(title)
    spec = {"title": title, "email": email, "timezone": given.get("timezone") or "UTC"}
    document = {
        "apiVersion": "wherry.dev/v1",
        "kind": "Consumer",
        "metadata": {"name": name},
        "spec": spec,
    }
    await site.parts.write(document, True)
    try:
        return await site.accounts.create(email, given["password"], title=title, consumer=name)
    except BaseException:
        await site.parts.remove("Consumer", name)
        raise


async def _enter(site: Site, account: Account, answer: web.Response) -> web.Response:
    set_cookie(site, answer, SESSION_COOKIE, await site.sessions.begin(account.id))
    return answer


def _faults(given: Mapping[str, str]) -> dict[str, str]:
    found = faults(given.get("email", "").strip(), given.get("password", ""))
    if not 1 <= len(given.get("title", "").strip()) <= _MAX_TITLE:
        found["title"] = f"Write a name of 1 to {_MAX_TITLE} characters."
    try:
        ZoneInfo(given.get("timezone") or "UTC")
    except (KeyError, ValueError, OSError):
        found["timezone"] = "Write a time zone like Europe/Berlin."
    return found


def _may(wait: float) -> None:
    if wait > 0:
        raise web.HTTPTooManyRequests(
            text=f"Too many attempts. Try again in {math.ceil(wait / 60)} minutes.",
            headers={"Retry-After": str(math.ceil(wait))},
        )


def _back(request: web.Request) -> str:
    """Return where to go on to: a path of ours, never another site."""
    path = request.query.get("next", "/")
    plain = path.isascii() and path.isprintable() and path.startswith("/")
    return path if plain and path[1:2] not in {"/", "\\"} else "/"


def _sign_up_page(
    site: Site, request: web.Request, given: Mapping[str, str], wrong: Mapping[str, str]
) -> web.Response:
    frame = site.frame(request, "Sign up", "/sign-up")
    content = form(
        frame,
        "/sign-up",
        entry(
            "title",
            "Your name or company",
            fault=wrong.get("title"),
            required=True,
            maxlength=_MAX_TITLE,
            autocomplete="organization",
            value=given.get("title", ""),
        ),
        entry(
            "email",
            "Email address",
            type="email",
            fault=wrong.get("email"),
            required=True,
            maxlength=254,
            autocomplete="username",
            value=given.get("email", ""),
            hint="You sign in with it. It is not verified: no mail is sent.",
        ),
        entry(
            "password",
            "Password",
            type="password",
            fault=wrong.get("password"),
            required=True,
            minlength=MIN_PASSWORD,
            maxlength=256,
            autocomplete="new-password",
            hint=f"At least {MIN_PASSWORD} characters.",
        ),
        entry(
            "timezone",
            "Time zone",
            fault=wrong.get("timezone"),
            maxlength=64,
            value=given.get("timezone", "UTC"),
            hint="Where your days and months begin.",
            data_guess="timezone",
        ),
        button("Create account"),
        label="Sign up",
    )
    other = el("p", "You have one? ", el("a", "Sign in", href="/sign-in"), ".")
    head = heading("Create your account", "One account for every product: keys, usage, invoices.")
    answer = shown(site, request, ("Sign up", "/sign-up"), _narrow(head, content, other))
    if wrong:
        answer.set_status(422)
    return answer


def _sign_in_page(site: Site, request: web.Request, email: str, fault: str | None) -> web.Response:
    frame = site.frame(request, "Sign in", "/sign-in")
    content = form(
        frame,
        str(request.rel_url),
        el("p", fault, class_="fault", role="alert") if fault else None,
        entry(
            "email",
            "Email address",
            type="email",
            required=True,
            maxlength=254,
            autocomplete="username",
            value=email,
        ),
        entry(
            "password",
            "Password",
            type="password",
            required=True,
            maxlength=256,
            autocomplete="current-password",
        ),
        button("Sign in"),
        label="Sign in",
    )
    other = el("p", "New here? ", el("a", "Create an account", href="/sign-up"), ".")
    answer = shown(
        site, request, ("Sign in", "/sign-in"), _narrow(heading("Sign in"), content, other)
    )
    if fault:
        answer.set_status(422)
    return answer


def _narrow(*content: Html) -> Html:
    return el("div", *content, class_="narrow card")
