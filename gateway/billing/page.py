"""An invoice as a page: for screens, light or dark, and for paper. It needs nothing beside it."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from gateway.billing.invoices import Invoice
from gateway.billing.statement import Line

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #566173; --line: #d8dee6;
  --paper: #ffffff; --desk: #eef1f5; --accent: #0b5d7a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --quiet: #a3afbf; --line: #38424f;
  --paper: #171c23; --desk: #0e1217; --accent: #6cc4e0; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--desk); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 3rem);
  background: var(--paper); border: 1px solid var(--line); border-radius: .75rem; }
header { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; justify-content: space-between; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; letter-spacing: -.01em; }
h1 small { display: block; margin-top: .25rem; font-size: 1rem; font-weight: 400;
  letter-spacing: 0; color: var(--quiet); }
dl { display: grid; grid-template-columns: auto auto; gap: .15rem 1rem; margin: 0;
  font-size: .9rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.to { margin: 2rem 0; overflow-wrap: anywhere; }
.to p { margin: 0; }
.to p:first-child, caption { color: var(--quiet); font-size: .9rem; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .95rem; }
caption { padding-bottom: .5rem; text-align: left; }
th, td { padding: .5rem .75rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-size: .85rem; font-weight: 600; color: var(--quiet); }
tbody th { padding-top: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
tbody th small { font-weight: 400; color: var(--quiet); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.long { white-space: normal; overflow-wrap: anywhere; }
tfoot th, tfoot td { border-bottom: 0; padding-top: .75rem; font-weight: 400; }
tfoot th { text-align: right; }
tfoot tr:last-child th, tfoot tr:last-child td { font-size: 1.15rem; font-weight: 700;
  color: var(--accent); }
.how { display: none; color: var(--quiet); font-size: .85rem; }
@media (max-width: 38rem) { .how { display: block; }
  th.q, td.q { padding-left: 0; padding-right: 0; font-size: 0; } }
footer { margin-top: 2rem; color: var(--quiet); font-size: .85rem; }
@media print { :root { color-scheme: light; --ink: #000; --quiet: #444; --line: #bbb;
  --paper: #fff; --desk: #fff; --accent: #000; }
  body { padding: 0; } main { padding: 0; border: 0; max-width: none; }
  tr { break-inside: avoid; } thead { display: table-header-group; } }
"""

_LONG = 14
"""Characters of a number that every column holds."""

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
"""The ``Content-Security-Policy`` of the page: its own style, and nothing else."""


def page(invoice: Invoice) -> str:
    """Return ``invoice`` as an HTML document; every text of it is escaped."""
    first, last = invoice.days
    title = f"Invoice {invoice.name}"
    facts = [
        ("Issued", invoice.issued.isoformat()),
        ("From", first.isoformat()),
        ("To", last.isoformat()),
        ("Time zone", invoice.zone),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}<small>{escape(invoice.month.title)}</small></h1>
<dl>{"".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts)}</dl>
</header>
<div class="to">{"".join(f"<p>{each}</p>" for each in _payer(invoice))}</div>
<div class="wide">
<table>
<caption>Amounts in {escape(invoice.currency)}</caption>
<thead><tr><th scope="col">What</th><th scope="col" class="n q">Quantity</th>
<th scope="col" class="n q">Unit price</th><th scope="col" class="n">Amount</th></tr></thead>
{"".join(_group(invoice, heading, lines) for heading, lines in grouped(invoice))}
<tfoot>{"".join(_sum(name, amount) for name, amount in sums(invoice))}</tfoot>
</table>
</div>
<footer>{NOTE}</footer>
</main>
</body>
</html>
"""


NOTE = (
    "Each line is rounded once, halves away from zero. Later usage of this period is billed later."
)
"""What is said below the sums."""


def grouped(invoice: Invoice) -> Iterator[tuple[tuple[str, str], Sequence[Line]]]:
    """Yield the lines of each subscription under its heading: what, and the plan."""
    for (product, app, plan), lines in groupby(invoice.lines, key=lambda line: line.what):
        name = f"{product}, app {app}" if app else product
        yield (name, f"plan {plan}"), list(lines)


def sums(invoice: Invoice) -> Iterator[tuple[str, str]]:
    """Yield name and amount of each sum below the lines."""
    yield "Total", invoice.shown(invoice.total)
    if invoice.credit:
        name = "Paid by credit" if invoice.credit > 0 else "Added to credit"
        yield name, invoice.shown(-invoice.credit)
    yield f"Due, {invoice.currency}", invoice.shown(invoice.due)


def _payer(invoice: Invoice) -> Iterator[str]:
    yield "Billed to"
    yield f"<strong>{escape(invoice.title)}</strong>"
    if invoice.title != invoice.consumer:
        yield escape(invoice.consumer)
    if invoice.email:
        yield escape(invoice.email)


def _group(invoice: Invoice, heading: tuple[str, str], lines: Sequence[Line]) -> str:
    name, plan = (escape(each) for each in heading)
    rows = "".join(_row(invoice, line) for line in lines)
    head = f'<tr><th scope="rowgroup" colspan="4">{name} <small>{plan}</small></th></tr>'
    return f"<tbody>{head}{rows}</tbody>\n"


def _row(invoice: Invoice, line: Line) -> str:
    charge = line.charge
    quantity = "" if charge.quantity is None else f"{charge.quantity:,}"
    unit = escape(charge.unit or "")
    # for narrow screens, where two columns are for readers of screens only
    how = f'<span class="how" aria-hidden="true">{quantity} &times; {unit}</span>'
    return (
        f"<tr><td>{escape(charge.text)}{how if quantity and unit else ''}</td>"
        f"{_number(quantity, 'n q')}{_number(unit, 'n q')}"
        f"{_number(invoice.shown(charge.amount))}</tr>"
    )


def _number(text: str, kind: str = "n") -> str:
    """Return a cell; a number that no column holds may be broken where its digits are grouped."""
    if len(text) <= _LONG:
        return f'<td class="{kind}">{text}</td>'
    broken = re.sub("([,.])", r"\1<wbr>", text)
    return f'<td class="{kind} long">{broken}</td>'


def _sum(name: str, amount: str) -> str:
    return f'<tr><th scope="row" colspan="3">{escape(name)}</th>{_number(amount)}</tr>'
