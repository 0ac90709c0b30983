"""Invoices for other programs: files, a signed webhook, and items in Stripe's shape."""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from fractions import Fraction
from http import HTTPStatus
from pathlib import Path

import aiohttp

from gateway.billing.invoices import Invoice
from gateway.billing.page import page
from gateway.billing.pdf import pdf
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.model.currency import EXPONENT

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""How often a webhook is tried."""

_FIRST_WAIT = 0.5
_MOST_WAIT = 30.0
_SECONDS = 10.0
_MOST_ANSWER = 1 << 16

_STRIPE_PLACES: Mapping[str, int] = dict.fromkeys(("MGA",), 0) | dict.fromkeys(("ISK", "UGX"), 2)
"""Where Stripe counts other decimals than ISO 4217 does."""

_STRIPE_STEP: Mapping[str, int] = dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10)
"""Where Stripe takes only every tenth of the smallest units."""


class Differs(WherryError):
    """A file of an invoice holds something else."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"file {path}: another content, expected the invoice or no file")
        self.path = path


class NotTaken(WherryError):
    """The receiver of a webhook does not take an invoice."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"invoice {name}: {why}, expected the receiver to answer 2xx")
        self.name, self.why = name, why


class NotExact(WherryError):
    """An amount cannot be said in the receiver's smallest units."""

    def __init__(self, name: str, amount: str, currency: str) -> None:
        super().__init__(
            f"invoice {name}: a line of {amount} {currency}, expected one that the receiver can "
            "count without rounding"
        )
        self.name, self.amount, self.currency = name, amount, currency


def files(invoice: Invoice, folder: Path) -> list[Path]:
    """Write an invoice as JSON, page and PDF into ``folder``, each whole; return their paths.

    What is there already stays.

    Raises:
        Differs: A file of that name holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(invoice.document(), indent=2, ensure_ascii=False) + "\n"
    contents = {
        ".json": document.encode(),
        ".html": page(invoice).encode(),
        ".pdf": pdf(invoice),
    }
    return [_write(folder / f"{invoice.name}{end}", body) for end, body in contents.items()]


def _write(path: Path, body: bytes) -> Path:
    if path.exists():
        if path.read_bytes() != body:
            raise Differs(path)
        return path
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(body)
    staged.replace(path)
    return path


def signature(secret: bytes, at: int, body: bytes) -> str:
    """Return the value of ``Wherry-Signature``: ``t=SECONDS,v1=HEX``.

    The hex is HMAC-SHA256 over the seconds, a point, and the body; whoever checks it should also
    refuse times that are minutes away.

    Source: RFC 2104
    """
    mac = hmac.new(secret, b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Webhook:
    """Tells a URL of invoices, each at least once, with the same idempotency key each time.

    Args:
        url: Where they go.
        secret: What they are signed with.
        clock: Where the time is read.
        first_wait: Seconds before the second attempt; doubled for each after it.
    """

    def __init__(
        self, url: str, secret: bytes, clock: Clock, *, first_wait: float = _FIRST_WAIT
    ) -> None:
        self._url, self._secret, self._clock = url, secret, clock
        self._first_wait = first_wait

    async def send(self, invoices: Sequence[Invoice]) -> None:
        """Send each invoice, in order.

        Raises:
            NotTaken: The receiver refused one, or could not be reached `ATTEMPTS` times.
        """
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for invoice in invoices:
                await self._send(session, invoice)

    async def _send(self, session: aiohttp.ClientSession, invoice: Invoice) -> None:
        event = {"type": "invoice.issued", "id": invoice.name, "data": invoice.document()}
        body = json.dumps(event, ensure_ascii=False).encode()
        why, wait = "", self._first_wait
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(wait * (0.5 + secrets.randbelow(1000) / 2000))
                wait = min(wait * 2, _MOST_WAIT)
            try:
                status = await self._posted(session, invoice.name, body)
            except (aiohttp.ClientError, TimeoutError) as error:
                why = f"{type(error).__name__} after {attempt + 1} attempts"
                continue
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return
            why = f"status {status}"
            if not _worth_another(status):
                break
        raise NotTaken(invoice.name, why)

    async def _posted(self, session: aiohttp.ClientSession, name: str, body: bytes) -> int:
        at = self._clock.unix_ns() // 10**9
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f'"invoice-{name}"',
            "Wherry-Signature": signature(self._secret, at, body),
        }
        async with session.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            await answer.content.read(_MOST_ANSWER)
            return answer.status


def _worth_another(status: int) -> bool:
    again = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)
    return status in again or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def stripe_items(invoice: Invoice, customer: str) -> list[dict[str, object]]:
    """Return an invoice as parameters of Stripe's invoice items, which add up to what is due.

    Args:
        invoice: Issued.
        customer: Stripe's id of the consumer.

    Raises:
        NotExact: An amount is no whole number of what Stripe counts in.

    Source: https://docs.stripe.com/api/invoiceitems/create
    """
    items = [
        _stripe_item(invoice, customer, str(place), line.charge.amount)
        | {"description": f"{line.product} ({line.plan}): {line.charge.text}"}
        for place, line in enumerate(invoice.lines, 1)
        if line.charge.amount
    ]
    if invoice.credit:
        item = _stripe_item(invoice, customer, "credit", -invoice.credit)
        items.append(item | {"description": "Paid by credit"})
    return items


def _stripe_item(invoice: Invoice, customer: str, line: str, amount: int) -> dict[str, object]:
    return {
        "customer": customer,
        "currency": invoice.currency.lower(),
        "amount": _stripe_amount(invoice, amount),
        "period": {"start": invoice.begins_ns // 10**9, "end": invoice.ends_ns // 10**9},
        "metadata": {"wherry_invoice": invoice.name, "wherry_line": line},
    }


def _stripe_amount(invoice: Invoice, amount: int) -> int:
    currency = invoice.currency
    places = _STRIPE_PLACES.get(currency, EXPONENT[currency])
    counted = Fraction(amount) * Fraction(10) ** (places - EXPONENT[currency])
    if counted.denominator != 1 or counted % _STRIPE_STEP.get(currency, 1):
        raise NotExact(invoice.name, invoice.money(amount), currency)
    return int(counted)
