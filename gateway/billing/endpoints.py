"""Billing in the admin API: invoices, what a month comes to, previews, credit, closing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from gateway.admin.asked import model, number, parameter, query
from gateway.admin.endpoint import ACTOR, NOTED, Endpoint, Handler, Role
from gateway.billing import described
from gateway.billing.books import MAX_PAGE, UnknownAccount, UnknownInvoice
from gateway.billing.closing import NotNext, StillOpen
from gateway.billing.desk import Desk
from gateway.billing.invoices import Invoice
from gateway.billing.ledger import IdTaken
from gateway.billing.money import BadAmount, UnknownCurrency
from gateway.billing.page import POLICY, page
from gateway.billing.pdf import pdf
from gateway.billing.periods import BadMonth, Month
from gateway.billing.preview import MAX_MONTHS
from gateway.billing.source import NoLongerKept
from gateway.billing.statement import UnknownPlan
from gateway.problem import Refused
from wherry.errors import WherryError
from wherry.model.resource import Strict

Form = Literal["json", "html", "pdf"]

_MOST_NUMBER = 10**8 - 1
_TYPES: Mapping[str, Form] = {
    "*/*": "json",
    "application/json": "json",
    "text/*": "html",
    "text/html": "html",
    "application/pdf": "pdf",
}
_STATUS: Mapping[type[WherryError], HTTPStatus] = {
    UnknownAccount: HTTPStatus.NOT_FOUND,
    UnknownInvoice: HTTPStatus.NOT_FOUND,
    UnknownPlan: HTTPStatus.NOT_FOUND,
    NotNext: HTTPStatus.CONFLICT,
    StillOpen: HTTPStatus.CONFLICT,
    IdTaken: HTTPStatus.CONFLICT,
    NoLongerKept: HTTPStatus.GONE,
    BadMonth: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadAmount: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownCurrency: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class NewCredit(Strict):
    """Credit that a consumer gets.

    Attributes:
        id: The client's own; the same again is not counted. None is always new.
        amount: A decimal; below 0 takes away.
        currency: Of the amount.
        reason: One sentence for people.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = None
    amount: str = Field(max_length=40)
    currency: str = Field(max_length=40)
    reason: str = Field(min_length=1, max_length=500)


class Closing(Strict):
    """A month to close.

    Attributes:
        month: Like ``2026-11``; None is the next.
    """

    month: str | None = Field(default=None, max_length=40)


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the operations of billing."""
    each = _Billing(desk)
    found: list[tuple[str, str, Role, Handler, Mapping[str, object]]] = [
        ("GET", "/v1/invoices", Role.VIEWER, each.invoices, described.INVOICES),
        ("GET", "/v1/invoices/{number}", Role.VIEWER, each.invoice, described.INVOICE),
        ("GET", "/v1/consumers/{consumer}/draft", Role.VIEWER, each.draft, described.DRAFT),
        ("GET", "/v1/consumers/{consumer}/preview", Role.VIEWER, each.preview, described.PREVIEW),
        ("GET", "/v1/consumers/{consumer}/credits", Role.VIEWER, each.credit, described.CREDITS),
        ("POST", "/v1/consumers/{consumer}/credits", Role.OWNER, each.add, described.NEW_CREDIT),
        ("POST", "/v1/consumers/{consumer}/close", Role.OWNER, each.close, described.CLOSE),
    ]
    return [
        Endpoint(method, path, role, _told(handler), operation, 1 << 14)
        for method, path, role, handler, operation in found
    ]


def rendered(invoice: Invoice, form: Form) -> web.Response:
    """Return ``invoice`` as an answer in one of its forms."""
    match form:
        case "json":
            return web.json_response(invoice.document(parties=True))
        case "html":
            return web.Response(
                text=page(invoice),
                content_type="text/html",
                headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"},
            )
        case "pdf":
            name = f'inline; filename="invoice-{invoice.name}.pdf"'
            return web.Response(
                body=pdf(invoice),
                content_type="application/pdf",
                headers={"Content-Disposition": name},
            )


class _Billing:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def invoices(self, request: web.Request) -> web.Response:
        asked = query(request, "consumer", "limit", "cursor")
        limit = parameter(request, "limit", number(1, MAX_PAGE, 100))
        after = parameter(request, "cursor", number(0, _MOST_NUMBER, 0))
        found = await self._desk.invoices(asked.get("consumer"), after=after, limit=limit + 1)
        shown = found[:limit]
        items = [invoice.document(parties=True) for invoice in shown]
        more = {"next": str(shown[-1].number)} if len(found) > limit else {}
        return web.json_response({"items": items, **more})

    async def invoice(self, request: web.Request) -> web.Response:
        query(request, "format")
        text = request.match_info["number"]
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_NUMBER))):
            raise Refused(HTTPStatus.NOT_FOUND, f"No invoice is called {text[:40]!r}.")
        form = _form(request)
        invoice = await self._desk.invoice(int(text))
        return await asyncio.to_thread(rendered, invoice, form)

    async def draft(self, request: web.Request) -> web.Response:
        query(request)
        return _listed(await self._desk.draft(request.match_info["consumer"]))

    async def preview(self, request: web.Request) -> web.Response:
        asked = query(request, "product", "plan", "months")
        if not {"product", "plan"} <= set(asked):
            detail = "Expected the query parameters product and plan."
            raise Refused(HTTPStatus.BAD_REQUEST, detail)
        months = parameter(request, "months", number(1, MAX_MONTHS, 3))
        consumer = request.match_info["consumer"]
        found = await self._desk.preview(consumer, asked["product"], asked["plan"], months=months)
        return web.json_response({"items": [each.document() for each in found]})

    async def credit(self, request: web.Request) -> web.Response:
        query(request)
        found = await self._desk.credit(request.match_info["consumer"])
        return web.json_response(found.document())

    async def add(self, request: web.Request) -> web.Response:
        query(request)
        given = await model(request, NewCredit)
        found = await self._desk.add_credit(
            request.match_info["consumer"],
            given.amount,
            given.currency,
            reason=given.reason,
            by=request[ACTOR],
            each=given.id,
        )
        request[NOTED] = True
        return web.json_response(found.document())

    async def close(self, request: web.Request) -> web.Response:
        query(request)
        given = await model(request, Closing)
        month = None if given.month is None else Month.parse(given.month)
        consumer = request.match_info["consumer"]
        found = await self._desk.close(consumer, month, by=request[ACTOR])
        request[NOTED] = True
        return _listed(found)


def _listed(invoices: Sequence[Invoice]) -> web.Response:
    return web.json_response({"items": [each.document(parties=True) for each in invoices]})


def _form(request: web.Request) -> Form:
    """Return the form that is asked for, by ``format`` or by ``Accept``.

    Source: RFC 9110 section 12.5.1
    """
    asked = request.query.get("format")
    if asked is not None:
        for form in _TYPES.values():
            if form == asked:
                return form
        detail = f"Query parameter format is {asked[:40]!r}, expected json, html or pdf."
        raise Refused(HTTPStatus.BAD_REQUEST, detail)
    best: tuple[float, Form] = (0.0, "json")
    for place, field in enumerate(request.headers.get("Accept", "*/*").split(",")[:32]):
        kind, _, rest = field.strip().partition(";")
        found = _TYPES.get(kind.strip().lower())
        weight = _weight(rest) - place / 1e6
        if found is not None and weight > best[0]:
            best = weight, found
    if not best[0]:
        detail = "Expected one of application/json, text/html and application/pdf in Accept."
        raise Refused(HTTPStatus.NOT_ACCEPTABLE, detail)
    return best[1]


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name.lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _told(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """Make billing's own errors refusals."""

    @wraps(handler)
    async def asked(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except tuple(_STATUS) as error:
            raise Refused(_STATUS[type(error)], f"{error}.") from None

    return asked
