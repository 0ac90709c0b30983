"""Trying a call: a form for it, and the relay that sends it to the gateway."""

import asyncio
import json
from dataclasses import asdict
from functools import partial
from urllib.parse import quote

import aiohttp
from aiohttp import web

from gateway.portal.calls import call_form, hosts
from gateway.portal.layout import heading
from gateway.portal.markup import el
from gateway.portal.relay import Call, Unusable
from gateway.portal.site import Site, account_of, shown, visit_of


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [
        web.get("/products/{product}/try", partial(_page, site)),
        web.post("/products/{product}/try", partial(_send, site)),
    ]


async def _page(site: Site, request: web.Request) -> web.StreamResponse:
    product = site.product(request)
    found = await asyncio.to_thread(site.shelf.operations, site.world, product)
    wanted = request.query.get("operation")
    chosen = next((each for each in found if each.id == wanted), found[0] if found else None)
    title = product.spec.title or product.name
    top = (
        el("p", el("a", title, href=f"/products/{product.name}"), class_="crumb"),
        heading(f"Try {title}", "The call is a real one: it counts, and it costs."),
    )
    if chosen is None:
        said = el("p", "There is nothing to call.", class_="empty")
    elif visit_of(request).account is None:
        back = quote(request.rel_url.path_qs, safe="")
        sign_in = el("a", "Sign in", href=f"/sign-in?next={back}")
        said = el("p", sign_in, " to try a call.", class_="empty")
    else:
        said = call_form(product, found, chosen, site.gateway_url)
    return shown(site, request, (f"Try {title}", "/"), *top, said)


async def _send(site: Site, request: web.Request) -> web.StreamResponse:
    account_of(request)
    product = site.product(request)
    try:
        call = Call.read(await _json(request), hosts(product))
        seen = await site.relay.send(call, site.peer(request))
    except Unusable as error:
        return web.json_response({"detail": str(error)}, status=422)
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = f"The gateway gave no answer ({type(error).__name__})."
        return web.json_response({"detail": detail}, status=502)
    return web.json_response(asdict(seen))


async def _json(request: web.Request) -> object:
    if request.content_type != "application/json":
        raise Unusable("The call must be JSON.")
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise Unusable("The call is no JSON.") from None
