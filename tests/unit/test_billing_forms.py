"""An invoice reads the same as JSON, page and PDF, and other programs can take it."""

import hashlib
import hmac
import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest
from aiohttp import web
from support.billing import SetClock

from gateway.billing.export import Differs, NotExact, NotTaken, Webhook, files, stripe_items
from gateway.billing.invoices import Payer, drafted
from gateway.billing.page import POLICY, page
from gateway.billing.pdf import pdf
from gateway.billing.periods import Month, Period
from gateway.billing.statement import Used, statement
from wherry.model.pricing import Price, Recurring, UsagePrice

NOVEMBER = Month(2026, 11)
HOSTILE = '<script>alert(1)</script> & "Söhne" 株式会社'


def made(currency="EUR", title="Acme", unit="0.01", credit=0):
    usage = [UsagePrice(model="perUnit", unit=unit, included=10)]
    price = Price(currency=currency, recurring=Recurring(amount="30"), usage=usage)
    used = {Used("default", "api", "basic", "requests"): 1234}
    lines = statement(NOVEMBER, [], {"basic": price}, used)
    payer = Payer("acme", title, "bill@acme.example")
    period = Period.of(NOVEMBER, "Europe/Berlin")
    [draft] = drafted(payer, period, lines, {"basic": price}, date(2026, 12, 1))
    return replace(draft, number=42, credit=credit)


class Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "style")]

    def handle_data(self, data):
        self.found.append(data)


def test_the_page_says_what_the_document_says_and_runs_nothing():
    invoice = made(title=HOSTILE, credit=500)
    read = Texts()
    read.feed(page(invoice))
    assert "script" not in read.tags
    assert HOSTILE in read.found
    for amount in ("0.00", "12.24", "-5.00", "7.24"):
        assert amount in read.found


def test_amounts_are_grouped_for_people_and_plain_for_programs():
    invoice = replace(made(), credit=-123456789)
    assert [invoice.shown(amount) for amount in (-5, -123456, 100, 10**15)] == [
        "-0.05",
        "-1,234.56",
        "1.00",
        "10,000,000,000,000.00",
    ]
    assert invoice.document()["credit"] == "-1234567.89"
    assert ">1,234,567.89<" in page(invoice)


def test_a_number_that_no_column_holds_is_broken_between_its_digits_only():
    text = page(replace(made(), credit=-(10**16)))
    assert ">100,<wbr>000,<wbr>000,<wbr>000,<wbr>000.<wbr>00<" in text
    assert pdf(replace(made(), credit=-(10**16)))


def test_the_pages_policy_allows_its_own_style_and_nothing_else():
    style = re.search(r"<style>(.*)</style>", page(made()), re.DOTALL)[1]
    digest = hashlib.sha256(style.encode()).digest()
    assert f"sha256-{b64encode(digest).decode()}" in POLICY
    assert "default-src 'none'" in POLICY


def test_the_same_invoice_is_the_same_pdf():
    invoice = made(title=HOSTILE)
    assert pdf(invoice) == pdf(invoice)
    assert pdf(invoice).startswith(b"%PDF-1.")


def test_a_pdf_of_many_lines_has_many_pages():
    invoice = made()
    assert pdf(replace(invoice, lines=invoice.lines * 200)).count(b"/Type /Page\n") > 5


# Export


def test_files_are_written_once_and_never_changed(tmp_path):
    paths = files(made(), tmp_path / "out")
    assert [path.name for path in paths] == ["00000042.json", "00000042.html", "00000042.pdf"]
    assert json.loads(paths[0].read_text())["due"] == "12.24"
    assert files(made(), tmp_path / "out") == paths
    with pytest.raises(Differs, match=r"00000042\.json"):
        files(made(title="Another"), tmp_path / "out")


def test_stripes_items_add_up_to_what_is_due():
    items = stripe_items(made(credit=500), "cus_1")
    assert [item["amount"] for item in items] == [1224, -500]
    assert items[0]["currency"] == "eur"
    assert items[0]["description"] == "api (basic): requests"
    assert items[0]["period"] == {"start": 1793487600, "end": 1796079600}


@pytest.mark.parametrize(
    ("currency", "unit", "amount"),
    [("JPY", "1", 1224), ("ISK", "1", 122_400), ("KWD", "0.01", 12240)],
)
def test_stripe_counts_some_currencies_its_own_way(currency, unit, amount):
    assert [item["amount"] for item in stripe_items(made(currency, unit=unit), "cus_1")] == [amount]


def test_an_amount_that_stripe_cannot_count_is_refused():
    with pytest.raises(NotExact, match=r"a line of 1\.224 KWD"):
        stripe_items(made("KWD", unit="0.001"), "cus_1")


class Receiver:
    """Answers what it is told, one status after the other, and keeps what it got."""

    def __init__(self, *statuses):
        self.statuses, self.got = list(statuses), []

    async def handle(self, request):
        self.got.append((request.headers.copy(), await request.read()))
        return web.Response(status=self.statuses.pop(0), headers={"Location": "/elsewhere"})


@pytest.fixture
async def received():
    runners = []

    async def start(*statuses):
        receiver = Receiver(*statuses)
        app = web.Application()
        app.router.add_post("/hook", receiver.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return receiver, f"http://{host}:{port}/hook"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_webhook_is_signed_and_tried_again_with_the_same_key(received):
    receiver, url = await received(503, 429, 204)
    clock = SetClock("2026-12-01T00:00")
    await Webhook(url, b"secret", clock, first_wait=0).send([made()])
    keys = {headers["Idempotency-Key"] for headers, _ in receiver.got}
    assert (len(receiver.got), keys) == (3, {'"invoice-00000042"'})
    headers, body = receiver.got[-1]
    at, mac = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["Wherry-Signature"]).groups()
    assert mac == hmac.new(b"secret", at.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert json.loads(body)["data"] == made().document()


@pytest.mark.parametrize("status", [302, 400, 401])
async def test_a_webhook_that_is_refused_or_sent_elsewhere_is_not_tried_again(received, status):
    receiver, url = await received(status)
    with pytest.raises(NotTaken, match=f"status {status}, expected the receiver to answer 2xx"):
        await Webhook(url, b"s", SetClock("2026-12-01T00:00"), first_wait=0).send([made()])
    assert len(receiver.got) == 1


async def test_a_webhook_that_cannot_be_reached_gives_up_after_its_attempts(received):
    receiver, url = await received(*[500] * 6)
    with pytest.raises(NotTaken, match="status 500"):
        await Webhook(url, b"s", SetClock("2026-12-01T00:00"), first_wait=0).send([made()])
    assert receiver.statuses == []
