"""Invoices: their list, and each as a page or as PDF."""

import base64
import hashlib
import re
from functools import partial

from aiohttp import web

from gateway.portal.layout import heading, table
from gateway.portal.markup import el, joined
from gateway.portal.parts import Unwell
from gateway.portal.site import Site, account_of, shown

_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)
_NUMBER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [
        web.get("/invoices", partial(_invoices, site)),
        web.get("/invoices/{number}", partial(_invoice, site)),
    ]


async def _invoices(site: Site, request: web.Request) -> web.StreamResponse:
    account = account_of(request)
    try:
        listed = await site.parts.invoices(account.consumer)
        credit = await site.parts.credit(account.consumer)
    except Unwell as error:
        said = el("p", str(error), class_="fault", role="alert")
        return shown(site, request, ("Invoices", "/invoices"), heading("Invoices"), said)
    rows = [
        (
            el("a", each.number, href=f"/invoices/{each.number}"),
            f"{each.begins} to {each.ends}",
            el("span", f"{each.total} {each.currency}", class_="number"),
            joined(
                [
                    el(
                        "a",
                        "View",
                        href=f"/invoices/{each.number}",
                        aria_label=f"View invoice {each.number}",
                    ),
                    " ",
                    el(
                        "a",
                        "PDF",
                        href=f"/invoices/{each.number}.pdf",
                        aria_label=f"Invoice {each.number} as PDF",
                    ),
                ]
            ),
        )
        for each in listed
    ]
    columns = ("Number", "Period", "Due", "Open")
    content = (
        el("div", table("Invoices", columns, rows), class_="card")
        if rows
        else el(
            "p", "There are no invoices yet: one is made when a month has ended.", class_="empty"
        )
    )
    head = heading("Invoices", "A closed month never changes; corrections come with the next.")
    left = el("p", "Credit: ", el("strong", ", ".join(credit))) if credit else None
    return shown(site, request, ("Invoices", "/invoices"), head, left, content)


async def _invoice(site: Site, request: web.Request) -> web.StreamResponse:
    account, number = account_of(request), request.match_info["number"]
    as_pdf = number.endswith(".pdf")
    number = number.removesuffix(".pdf")
    if not _NUMBER.fullmatch(number):
        raise web.HTTPNotFound(text="There is no such invoice.")
    if as_pdf:
        body = await site.parts.invoice_pdf(account.consumer, number)
        if body is not None:
            named = {"Content-Disposition": f'inline; filename="invoice-{number}.pdf"'}
            return web.Response(body=body, content_type="application/pdf", headers=named)
    else:
        text = await site.parts.invoice_page(account.consumer, number)
        if text is not None:
            return _framed(text)
    raise web.HTTPNotFound(text="There is no such invoice.")


def _framed(text: str) -> web.Response:
    """Return a page that somebody else made: it may show its own styles, and do nothing else."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'"
        for each in _STYLE.findall(text)
    )
    policy = (
        f"default-src 'none'; style-src {digests or chr(39) + 'none' + chr(39)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    answer = web.Response(text=text, content_type="text/html")
    answer.headers["Content-Security-Policy"] = policy
    return answer
