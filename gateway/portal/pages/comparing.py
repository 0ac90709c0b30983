"""What past months would have cost under another plan."""

from functools import partial

from aiohttp import web

from gateway.portal.layout import heading, table
from gateway.portal.markup import el
from gateway.portal.parts import Unwell
from gateway.portal.site import Site, account_of, shown


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [web.get("/products/{product}/plans/{plan}", partial(_compare, site))]


async def _compare(site: Site, request: web.Request) -> web.StreamResponse:
    account, product = account_of(request), site.product(request)
    plan = site.world.plans.get(request.match_info["plan"])
    if plan is None or plan.name not in product.spec.plans or not plan.spec.public:
        raise web.HTTPNotFound(text="There is no such plan.")
    title, named = plan.spec.title or plan.name, product.spec.title or product.name
    try:
        months = await site.parts.compare(account.consumer, product.name, plan.name)
    except Unwell as error:
        content = el("p", str(error), class_="empty")
    else:
        rows = [
            (each.month, ", ".join(each.now) or "nothing", ", ".join(each.then) or "nothing")
            for each in reversed(months)
        ]
        columns = ("Month", "As it was", f"Under {title}")
        content = el("div", table(f"{named} under {title}", columns, rows), class_="card")
    return shown(
        site,
        request,
        (f"{named} under {title}", "/"),
        el("p", el("a", named, href=f"/products/{product.name}"), class_="crumb"),
        heading(
            f"{named} under {title}",
            "Your last months, and what they would have cost; this month so far is among them.",
        ),
        content,
    )
