"""What is on offer, and subscribing to it."""

import secrets
from collections.abc import Mapping, Sequence
from functools import partial

from aiohttp import web

from gateway.portal.layout import Frame, button, form, heading, paragraphs
from gateway.portal.markup import Child, Html, el
from gateway.portal.parts import Unwell
from gateway.portal.prices import costs, headline, limits
from gateway.portal.site import Site, account_of, fields, shown, to, visit_of
from gateway.portal.subscribed import Held
from wherry.model.product import ApiProduct, Plan


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [
        web.get("/", partial(_products, site)),
        web.get("/products/{product}", partial(_product, site)),
        web.post("/products/{product}/subscribe", partial(_subscribe, site)),
        web.post("/products/{product}/end", partial(_end, site)),
    ]


async def _products(site: Site, request: web.Request) -> web.StreamResponse:
    account = visit_of(request).account
    held = {} if account is None else site.held(account)
    cards = [
        _card(product, held.get(product.name))
        for product in sorted(site.world.products.values(), key=_title)
        if product.spec.public or product.name in held
    ]
    about = (
        "Choose a product, subscribe under a plan, and make a key."
        if account is not None
        else "Read what each can do. To call one, create an account."
    )
    empty = el("p", "Nothing is on offer yet.", class_="empty") if not cards else None
    grid = el("ul", *(el("li", card) for card in cards), class_="cards")
    return shown(site, request, ("Products", "/"), heading("APIs", about), empty, grid)


async def _product(site: Site, request: web.Request) -> web.StreamResponse:
    return _product_page(site, request, None)


async def _subscribe(site: Site, request: web.Request) -> web.StreamResponse:
    account, product = account_of(request), site.product(request)
    plan = site.world.plans.get((await fields(request)).get("plan", ""))
    if plan is None or plan.name not in product.spec.plans or not plan.spec.public:
        raise web.HTTPNotFound(text="There is no such plan.")
    held = site.held(account).get(product.name)
    if held is not None and held.plan == plan.name:
        raise web.HTTPSeeOther(str(request.rel_url.parent))
    pending = plan.spec.approval
    today = site.today(site.consumer(account))
    try:
        if held is not None and not pending:
            await _ended(site, held, today)
        spec = {
            "consumer": account.consumer,
            "product": product.name,
            "plan": plan.name,
            "begins": today,
            "state": "pending" if pending else "active",
        }
        await site.parts.write(_document(_name(account.consumer, product.name), spec), True)
    except Unwell as error:
        return _product_page(site, request, str(error))
    return to(f"/products/{product.name}", "pending" if pending else "subscribed")


async def _end(site: Site, request: web.Request) -> web.StreamResponse:
    account, product = account_of(request), site.product(request)
    held = site.held(account).get(product.name)
    if held is None:
        raise web.HTTPNotFound(text="There is no such subscription.")
    try:
        await _ended(site, held, site.today(site.consumer(account)))
    except Unwell as error:
        return _product_page(site, request, str(error))
    return to(f"/products/{product.name}", "ended")


async def _ended(site: Site, held: Held, today: str) -> None:
    """End a subscription today; one that never counted goes without a trace."""
    if held.name is None:
        raise Unwell("This subscription is the operator's: ask them to change it.")
    if held.state == "pending" or (held.begins is not None and held.begins >= today):
        await site.parts.remove("Subscription", held.name)
        return
    was = site.world.subscriptions[held.name].spec
    spec = was.model_dump(mode="json", by_alias=True, exclude_none=True) | {"ends": today}
    await site.parts.write(_document(held.name, spec), False)


def _document(name: str, spec: Mapping[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": "Subscription",
        "metadata": {"name": name},
        "spec": spec,
    }


def _name(consumer: str, product: str) -> str:
    return f"{consumer}.{product}.{secrets.token_hex(3)}"


def _product_page(site: Site, request: web.Request, fault: str | None) -> web.Response:
    product = site.product(request)
    frame = site.frame(request, _title(product), "/")
    account = visit_of(request).account
    held = None if account is None else site.held(account).get(product.name)
    plans = [site.world.plans[name] for name in product.spec.plans if name in site.world.plans]
    offered = [plan for plan in plans if plan.spec.public or (held and held.plan == plan.name)]
    links = el(
        "p",
        el(
            "a",
            "Read the reference",
            href=f"/products/{product.name}/reference",
            class_="button secondary",
        ),
        el("a", "Try a call", href=f"/products/{product.name}/try", class_="button secondary"),
        class_="actions",
    )
    answer = shown(
        site,
        request,
        (_title(product), "/"),
        heading(_title(product), el("span", _version(product), class_="muted")),
        el("p", fault, class_="fault", role="alert") if fault else None,
        el("div", paragraphs(product.spec.description), class_="prose"),
        links,
        el("h2", "Plans"),
        el("ul", *(_plan(frame, product, each, held) for each in offered), class_="cards"),
        _scopes(product),
    )
    if fault:
        answer.set_status(422)
    return answer


def _plan(frame: Frame, product: ApiProduct, plan: Plan, held: Held | None) -> Html:
    spec = plan.spec
    mine = held is not None and held.plan == plan.name
    return el(
        "li",
        el(
            "article",
            el("h3", spec.title or plan.name),
            el("p", headline(spec), class_="price"),
            paragraphs(spec.description),
            el("ul", *_points([*limits(spec), *costs(spec)]), class_="points"),
            _choice(frame, product, plan, held),
            class_="card chosen" if mine else "card",
        ),
    )


def _choice(frame: Frame, product: ApiProduct, plan: Plan, held: Held | None) -> Html:
    title = plan.spec.title or plan.name
    if held is not None and held.plan == plan.name:
        state = {"active": "Your plan", "pending": "Waits for approval", "suspended": "Suspended"}
        end = form(
            frame,
            f"/products/{product.name}/end",
            button("End subscription", kind="quiet", data_ask=f"End your subscription to {title}?"),
            label=f"End {title}",
        )
        return el("div", el("p", state[held.state], class_="badge"), end, class_="choice")
    if frame.name is None:
        return el("a", "Sign up to subscribe", class_="button primary", href="/sign-up")
    verb = "Ask for" if plan.spec.approval else "Switch to" if held else "Choose"
    compare = el(
        "a",
        "Compare costs",
        href=f"/products/{product.name}/plans/{plan.name}",
        class_="button quiet",
        aria_label=f"Compare costs with {title}",
    )
    choose = form(
        frame,
        f"/products/{product.name}/subscribe",
        el("input", type="hidden", name="plan", value=plan.name),
        button(f"{verb} {title}"),
        el("p", "An operator looks at it first.", class_="hint") if plan.spec.approval else None,
        label=f"{verb} {title}",
    )
    return el("div", choose, compare if held is not None else None, class_="choice")


def _points(lines: Sequence[str]) -> list[Html]:
    return [el("li", line[:1].upper() + line[1:]) for line in lines]


def _scopes(product: ApiProduct) -> Html | None:
    if not product.spec.scopes:
        return None
    listed: list[Child] = []
    for name, meaning in product.spec.scopes.items():
        listed += [el("dt", el("code", name)), el("dd", meaning)]
    return el("section", el("h2", "Scopes"), el("dl", *listed))


def _card(product: ApiProduct, held: Held | None) -> Html:
    first = product.spec.description.strip().split("\n\n")[0]
    badge = None
    if held is not None:
        badge = el(
            "span",
            "Subscribed" if held.state == "active" else held.state.capitalize(),
            class_="badge",
        )
    path = f"/products/{product.name}"
    return el(
        "article",
        el("h2", el("a", _title(product), href=path)),
        el("p", el("span", _version(product), class_="muted"), badge, class_="meta"),
        el("p", first) if first else None,
        el(
            "p",
            el(
                "a",
                "Reference",
                href=f"{path}/reference",
                aria_label=f"{_title(product)} reference",
            ),
            el("a", "Try it", href=f"{path}/try", aria_label=f"Try {_title(product)}"),
            class_="links",
        ),
        class_="card",
    )


def _title(product: ApiProduct) -> str:
    return product.spec.title or product.name


def _version(product: ApiProduct) -> str:
    said = f"Version {product.spec.version}"
    if product.spec.deprecated:
        said += f", deprecated since {product.spec.deprecated}"
    return f"{said}, ends {product.spec.sunset}" if product.spec.sunset else said
