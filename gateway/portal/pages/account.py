"""The account itself: what is known of it, and its password."""

from functools import partial

from aiohttp import web

from gateway.portal.accounts import faults
from gateway.portal.layout import button, entry, form, heading
from gateway.portal.markup import el
from gateway.portal.password import MIN_PASSWORD
from gateway.portal.site import SESSION_COOKIE, Site, account_of, fields, set_cookie, shown, to


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [
        web.get("/account", partial(_account, site)),
        web.post("/account/password", partial(_password, site)),
    ]


async def _account(site: Site, request: web.Request) -> web.StreamResponse:
    return _page(site, request, {})


async def _password(site: Site, request: web.Request) -> web.StreamResponse:
    who, given = account_of(request), await fields(request)
    peer, now = site.peer(request), site.clock.now()
    if site.sign_ins.wait(who.id, peer, now) > 0:
        raise web.HTTPTooManyRequests(text="Too many attempts. Try again later.")
    site.sign_ins.failed(who.id, peer, now)
    if await site.accounts.signed_in(who.email, given.get("current", "")) is None:
        return _page(site, request, {"current": "This is not your password."})
    site.sign_ins.succeeded(who.id, peer)
    wrong = faults(who.email, given.get("password", ""))
    if wrong:
        return _page(site, request, wrong)
    await site.accounts.change_password(who, given["password"])
    await site.sessions.end_all(who.id)
    answer = to("/account", "password")
    set_cookie(site, answer, SESSION_COOKIE, await site.sessions.begin(who.id))
    return answer


def _page(site: Site, request: web.Request, wrong: dict[str, str]) -> web.Response:
    who = account_of(request)
    frame = site.frame(request, "Account", "/account")
    consumer = site.consumer(who)
    facts = [
        el("div", el("dt", name), el("dd", value))
        for name, value in (
            ("Name", who.title),
            ("Email", who.email),
            ("Consumer", who.consumer),
            ("Time zone", consumer.spec.timezone if consumer else "UTC"),
        )
    ]
    change = form(
        frame,
        "/account/password",
        entry(
            "current",
            "Current password",
            type="password",
            required=True,
            maxlength=256,
            autocomplete="current-password",
            fault=wrong.get("current"),
        ),
        entry(
            "password",
            "New password",
            type="password",
            required=True,
            maxlength=256,
            minlength=MIN_PASSWORD,
            autocomplete="new-password",
            fault=wrong.get("password"),
            hint=f"At least {MIN_PASSWORD} characters.",
        ),
        button("Change password"),
        label="Change password",
    )
    answer = shown(
        site,
        request,
        ("Account", "/account"),
        heading("Account"),
        el("dl", *facts, class_="facts card"),
        el("section", el("h2", "Change password"), change, class_="card narrow left"),
    )
    if wrong:
        answer.set_status(422)
    return answer
