"""The reference of a product: its operations, what they take and what they answer."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from urllib.parse import quote

from aiohttp import web

from gateway.portal.authentication import ways
from gateway.portal.layout import heading, paragraphs
from gateway.portal.markup import Child, Html, el
from gateway.portal.reference.operations import Content, Operation, Parameter, Reply
from gateway.portal.reference.schema import Row
from gateway.portal.site import Site, shown
from wherry.model.product import ApiProduct


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [web.get("/products/{product}/reference", partial(_reference, site))]


async def _reference(site: Site, request: web.Request) -> web.StreamResponse:
    product = site.product(request)
    found = await asyncio.to_thread(site.shelf.operations, site.world, product)
    title = product.spec.title or product.name
    about = el("span", "Calls go to ", el("code", site.gateway_url), ".")
    return shown(
        site,
        request,
        (f"{title} reference", "/"),
        el("p", el("a", title, href=f"/products/{product.name}"), class_="crumb"),
        heading(f"{title} reference", about),
        el(
            "div",
            _contents(found),
            el("div", _who(product, site.gateway_url), *_groups(product, found)),
            class_="with-side",
        ),
    )


def _who(product: ApiProduct, gateway_url: str) -> Html:
    listed = [el("li", paragraphs(way)) for way in ways(product.spec, gateway_url)]
    return el("section", el("h2", "Saying who calls"), el("ul", *listed), class_="card ways")


def anchor(operation: Operation) -> str:
    """Return the id of an operation on the page."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in operation.id)
    return f"op-{plain}"


def _contents(found: Sequence[Operation]) -> Html:
    links = [
        el(
            "li",
            el(
                "a",
                el("span", each.method, class_=f"method {each.method.lower()}"),
                el("span", each.title),
                href=f"#{anchor(each)}",
            ),
        )
        for each in found
    ]
    return el(
        "nav", el("h2", "Operations"), el("ul", *links), class_="side", aria_label="Operations"
    )


def _groups(product: ApiProduct, found: Sequence[Operation]) -> list[Html]:
    made = []
    for group, members in groupby(found, key=lambda each: each.group):
        if group:
            made.append(el("h2", group, class_="group"))
        made += [_operation(product, each) for each in members]
    return made


def _operation(product: ApiProduct, each: Operation) -> Html:
    return el(
        "article",
        el(
            "h3",
            each.title,
            el("span", "Deprecated", class_="badge warn") if each.deprecated else None,
        ),
        el(
            "p",
            el("span", each.method, class_=f"method {each.method.lower()}"),
            " ",
            el("code", each.path),
            class_="place",
        ),
        paragraphs(each.about),
        _parameters(each.parameters) if each.parameters else None,
        _content("Body", each.body) if each.body else None,
        el("h4", "Answers") if each.replies else None,
        *(_reply(reply) for reply in each.replies),
        el(
            "p",
            el(
                "a",
                "Try it",
                class_="button secondary",
                aria_label=f"Try {each.title}",
                href=f"/products/{product.name}/try?operation={quote(each.id, safe='')}",
            ),
            class_="actions",
        ),
        class_="card operation",
        id=anchor(each),
    )


def _parameters(parameters: Sequence[Parameter]) -> Html:
    rows: list[Child] = [
        el(
            "tr",
            el("th", el("code", each.name), _needed(required=each.required), scope="row"),
            el("td", each.where),
            el("td", each.kind),
            el("td", each.about),
        )
        for each in parameters
    ]
    return _table("Parameters", ("Name", "In", "Type", "About"), rows)


def _content(title: str, content: Content) -> Html:
    head = el("h4", title, " ", el("span", content.media, class_="muted"))
    rows = [_row(row) for row in content.rows]
    table = _table(f"{title} {content.kind}", ("Name", "Type", "About"), rows) if rows else None
    sample = el(
        "details", el("summary", "Example"), el("pre", el("code", content.sample), tabindex=0)
    )
    kind = None if rows else el("p", content.kind, class_="muted")
    return el("div", head, kind, table, sample if content.sample else None)


def _reply(reply: Reply) -> Html:
    summary = el(
        "summary", el("span", reply.status, class_=f"status s{reply.status[:1]}"), " ", reply.about
    )
    if reply.content is None:
        return el(
            "p", el("span", reply.status, class_=f"status s{reply.status[:1]}"), " ", reply.about
        )
    return el("details", summary, _content("Answer", reply.content), class_="reply")


def _row(row: Row) -> Html:
    name = el("code", row.name, class_=f"depth{min(row.depth, 6)}")
    about: list[Child] = [row.about]
    if row.bounds:
        about += [" " if row.about else None, el("span", row.bounds, class_="muted")]
    return el(
        "tr",
        el("th", name, _needed(required=row.required), scope="row"),
        el("td", row.kind),
        el("td", *about),
    )


def _needed(*, required: bool) -> Html | None:
    return el("span", " required", class_="needed") if required else None


def _table(title: str, columns: Sequence[str], rows: Sequence[Child]) -> Html:
    head = el("thead", el("tr", *(el("th", name, scope="col") for name in columns)))
    made = el("table", el("caption", title, class_="unseen"), head, el("tbody", *rows))
    return el("div", made, class_="scroll", tabindex=0, role="region", aria_label=title)
