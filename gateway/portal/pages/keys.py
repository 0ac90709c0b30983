"""Keys: made, shown once, rotated, revoked; and the apps that they are made for."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from aiohttp import web

from gateway.portal.accounts import Account
from gateway.portal.layout import Frame, button, choice, entry, form, heading
from gateway.portal.markup import Child, Html, el
from gateway.portal.parts import NewKey, ShownKey, Unwell
from gateway.portal.site import Site, account_of, fields, shown, to
from wherry.model.resource import is_name

_MAX_TITLE = 80
_LENGTHS = {"1": "in a day", "7": "in a week", "30": "in 30 days", "365": "in a year"}


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [
        web.get("/keys", partial(_keys, site)),
        web.post("/keys", partial(_make, site)),
        web.post("/keys/{prefix}/rotate", partial(_rotate, site)),
        web.post("/keys/{prefix}/revoke", partial(_revoke, site)),
        web.post("/apps", partial(_app, site)),
    ]


async def _keys(site: Site, request: web.Request) -> web.StreamResponse:
    return await _page(site, request, None)


async def _make(site: Site, request: web.Request) -> web.StreamResponse:
    account, given = account_of(request), await fields(request)
    app, title = given.get("app", "default"), given.get("title", "").strip()[:_MAX_TITLE]
    if app not in _apps(site, account):
        raise web.HTTPNotFound(text="There is no such app.")
    if site.consumer(account) is None:
        return await _page(site, request, "Your account is not in place: ask the operator.")
    try:
        lasts = _days(given.get("lasts", ""))
        text = await site.parts.make_key(NewKey(account.consumer, app, title, lasts))
    except Unwell as error:
        return await _page(site, request, str(error))
    return _shown_once(site, request, text, "Your new key")


async def _rotate(site: Site, request: web.Request) -> web.StreamResponse:
    key, consumer = await _own(site, request), account_of(request).consumer
    days = _days((await fields(request)).get(f"ends-{key.prefix}", ""))
    try:
        text = await site.parts.rotate_key(consumer, key.prefix, days)
    except Unwell as error:
        return await _page(site, request, str(error))
    return _shown_once(site, request, text, f"The key that follows {key.prefix}")


async def _revoke(site: Site, request: web.Request) -> web.StreamResponse:
    key = await _own(site, request)
    try:
        await site.parts.revoke_key(account_of(request).consumer, key.prefix)
    except Unwell as error:
        return await _page(site, request, str(error))
    return to("/keys", "revoked")


async def _app(site: Site, request: web.Request) -> web.StreamResponse:
    account, given = account_of(request), await fields(request)
    name = given.get("name", "").strip().lower()
    try:
        await _add_app(site, account, name)
    except Unwell as error:
        return await _page(site, request, str(error))
    return to("/keys", "app")


def _days(given: str) -> int | None:
    """Return a number of days that a form offers; None is without end."""
    return int(given) if given in _LENGTHS else None


async def _own(site: Site, request: web.Request) -> ShownKey:
    """Return the key that the path names, if it is theirs; others' do not exist for them."""
    account = account_of(request)
    for key in await site.parts.keys(account.consumer):
        if key.prefix == request.match_info["prefix"]:
            return key
    raise web.HTTPNotFound(text="There is no such key.")


async def _add_app(site: Site, account: Account, name: str) -> None:
    consumer = site.consumer(account)
    if consumer is None:
        raise Unwell("Your account is not in place yet: try again in a moment.")
    if not is_name(name) or name in _apps(site, account):
        raise Unwell("Name the app with small letters, digits and hyphens; each name once.")
    document = consumer.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["spec"]["apps"] = [*document["spec"].get("apps", []), {"name": name}]
    await site.parts.write(document, False)


def _apps(site: Site, account: Account) -> list[str]:
    consumer = site.consumer(account)
    named = [] if consumer is None else [app.name for app in consumer.spec.apps]
    return ["default", *(name for name in named if name != "default")]


def _shown_once(site: Site, request: web.Request, text: str, title: str) -> web.Response:
    answer = shown(
        site,
        request,
        (title, "/keys"),
        heading(title, "Keep it somewhere safe now: it is shown once and stored nowhere."),
        el(
            "div",
            el("label", "Key", for_="key"),
            el(
                "div",
                el(
                    "input",
                    id="key",
                    readonly=True,
                    value=text,
                    class_="secret",
                    spellcheck="false",
                    autocomplete="off",
                ),
                el("button", "Copy", type="button", class_="button secondary", data_copy="key"),
                class_="row",
            ),
            el(
                "p",
                el(
                    "button",
                    "Use it for trying calls in this tab",
                    type="button",
                    class_="button quiet",
                    data_keep="key",
                ),
                el("a", "Back to your keys", href="/keys", class_="button quiet"),
                class_="actions",
            ),
            el("p", role="status", id="copied", class_="hint"),
            class_="card narrow once",
        ),
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def _page(site: Site, request: web.Request, fault: str | None) -> web.Response:
    account = account_of(request)
    frame = site.frame(request, "Keys", "/keys")
    held = await site.parts.keys(account.consumer)
    now = site.clock.unix_ns()
    live = [key for key in held if _live(key, now)]
    past = [key for key in held if not _live(key, now)]
    answer = shown(
        site,
        request,
        ("Keys", "/keys"),
        heading(
            "Keys",
            "A key says who calls. Each app may have two, so that you can change "
            "over without a pause.",
        ),
        el("p", fault, class_="fault", role="alert") if fault else None,
        _list(frame, live) if live else el("p", "You have no keys yet.", class_="empty"),
        _making(frame, _apps(site, account)),
        el(
            "details",
            el("summary", f"Keys that no longer count ({len(past)})"),
            _past(past),
            class_="card",
        )
        if past
        else None,
    )
    if fault:
        answer.set_status(422)
    return answer


def _list(frame: Frame, keys: Sequence[ShownKey]) -> Html:
    return el("ul", *(el("li", _card(frame, key)) for key in keys), class_="stack")


def _card(frame: Frame, key: ShownKey) -> Html:
    facts: list[Child] = []
    for name, value in (
        ("App", key.app),
        ("Made", _when(key.created_ns)),
        ("Last used", _when(key.last_used_ns) if key.last_used_ns else "never"),
        ("Ends", _when(key.expires_ns) if key.expires_ns else "open"),
    ):
        facts.append(el("div", el("dt", name), el("dd", value)))
    path = f"/keys/{key.prefix}"
    return el(
        "article",
        el("h2", key.title or "Key", " ", el("code", f"wh_{key.prefix}_…")),
        el("dl", *facts, class_="facts"),
        el(
            "div",
            form(
                frame,
                f"{path}/rotate",
                choice(
                    f"ends-{key.prefix}",
                    "This key ends",
                    [*list(_LENGTHS.items())[:3], ("", "when I revoke it")],
                    "7",
                ),
                button("Rotate", kind="secondary"),
                label=f"Rotate key {key.prefix}",
                class_="row rotate",
            ),
            form(
                frame,
                f"{path}/revoke",
                button(
                    "Revoke",
                    kind="danger",
                    data_ask=f"Revoke the key {key.prefix}? Calls with it will be refused.",
                ),
                label=f"Revoke key {key.prefix}",
            ),
            class_="actions",
        ),
        class_="card",
    )


def _past(keys: Sequence[ShownKey]) -> Html:
    return el(
        "ul",
        *(
            el(
                "li",
                el("code", f"wh_{key.prefix}_…"),
                f" {key.title}, ",
                f"revoked {_when(key.revoked_ns)}"
                if key.revoked_ns
                else f"ended {_when(key.expires_ns or 0)}",
            )
            for key in keys
        ),
    )


def _making(frame: Frame, apps: Sequence[str]) -> Html:
    make = form(
        frame,
        "/keys",
        entry("title", "What is it for?", maxlength=_MAX_TITLE, hint="Only you see this."),
        choice("app", "App", [(name, name) for name in apps]),
        choice("lasts", "It ends", [("", "when I revoke it"), *list(_LENGTHS.items())[2:]]),
        button("Make a key"),
        label="Make a key",
    )
    add = form(
        frame,
        "/apps",
        entry(
            "name",
            "Name",
            maxlength=63,
            required=True,
            hint="Small letters, digits and hyphens, like billing-job.",
        ),
        button("Add app", kind="secondary"),
        label="Add an app",
    )
    return el(
        "div",
        el("section", el("h2", "Make a key"), make, class_="card"),
        el("section", el("h2", "Add an app"), add, class_="card"),
        class_="pair",
    )


def _live(key: ShownKey, now_ns: int) -> bool:
    return key.revoked_ns is None and (key.expires_ns is None or now_ns < key.expires_ns)


def _when(unix_ns: int) -> Html:
    at = datetime.fromtimestamp(unix_ns // 10**9, UTC)
    return el("time", f"{at:%d %b %Y, %H:%M} UTC", datetime=at.isoformat())
