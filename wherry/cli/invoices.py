"""``wherry invoice`` and ``wherry credit``: what consumers owe, and what they have paid ahead."""

import asyncio
import getpass
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from gateway.billing.books import MAX_PAGE
from gateway.billing.desk import Credit, Desk
from gateway.billing.invoices import Invoice
from gateway.billing.money import spelled
from gateway.billing.periods import Month
from gateway.billing.preview import MAX_MONTHS
from wherry.cli import stores
from wherry.cli.state import state_dir
from wherry.clock import SystemClock
from wherry.errors import StartError

app = typer.Typer(help="Invoices: list, show, close a month, export.", no_args_is_help=True)
credit = typer.Typer(help="Credit of consumers: add, show.", no_args_is_help=True)

State = Annotated[
    Path | None,
    typer.Option(help="Folder where Wherry keeps its store and secrets.", envvar="WHERRY_STATE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
Number = Annotated[int, typer.Argument(min=1, help="The invoice's number.")]
Consumer = Annotated[str, typer.Argument(help="Name of the Consumer.")]
After = Annotated[int, typer.Option(min=0, help="Only numbers over this.")]
T = TypeVar("T")


@app.command("list")
def show_all(
    consumer: Annotated[str | None, typer.Option(help="Only theirs.")] = None,
    after: After = 0,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """List invoices by number."""
    found = _run(state, lambda desk: desk.invoices(consumer, after=after, limit=MAX_PAGE))
    if as_json:
        typer.echo(json.dumps([invoice.document() for invoice in found]))
        return
    _listed(found, "No invoices yet; months are closed when they end.")


@app.command()
def show(number: Number, state: State = None, as_json: AsJson = False) -> None:
    """Show an invoice."""
    invoice = _run(state, lambda desk: desk.invoice(number))
    if as_json:
        typer.echo(json.dumps(invoice.document(parties=True)))
    else:
        _print(invoice)


@app.command()
def pdf(
    number: Number,
    to: Annotated[Path | None, typer.Option(help="File; invoice-NUMBER.pdf.")] = None,
    state: State = None,
) -> None:
    """Write an invoice as a PDF."""
    from gateway.billing.pdf import pdf as rendered  # noqa: PLC0415

    invoice = _run(state, lambda desk: desk.invoice(number))
    path = to or Path(f"invoice-{invoice.name}.pdf")
    try:
        path.write_bytes(rendered(invoice))
    except OSError as error:
        raise StartError(f"file {path}: {error.strerror}, expected one to write") from None
    typer.echo(path)


@app.command()
def draft(consumer: Consumer, state: State = None, as_json: AsJson = False) -> None:
    """Show what the open month comes to so far."""
    found = _run(state, lambda desk: desk.draft(consumer))
    if as_json:
        typer.echo(json.dumps([invoice.document() for invoice in found]))
        return
    for invoice in found:
        _print(invoice)
    if not found:
        typer.echo("Nothing to pay so far.")


@app.command()
def preview(
    consumer: Consumer,
    product: Annotated[str, typer.Argument(help="Of which the plan would change.")],
    plan: Annotated[str, typer.Argument(help="The other plan.")],
    months: Annotated[int, typer.Option(min=1, max=MAX_MONTHS, help="How many.")] = 3,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Compare what past months cost with what they would have cost under another plan."""
    found = _run(state, lambda desk: desk.preview(consumer, product, plan, months=months))
    if as_json:
        typer.echo(json.dumps([each.document() for each in found]))
        return
    table = Table("month", box=None)
    table.add_column("now", justify="right")
    table.add_column(f"under {plan}", justify="right")
    for each in found:
        table.add_row(str(each.month), _sums(each.now.items()), _sums(each.then.items()))
    Console().print(table)


@app.command()
def close(
    consumer: Consumer,
    month: Annotated[str | None, typer.Option(help="Like 2026-11; the next.")] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Close a month that has ended and issue its invoices; again, it stays as it is."""
    wanted = None if month is None else Month.parse(month)
    found = _run(state, lambda desk: desk.close(consumer, wanted, by=_who()))
    if as_json:
        typer.echo(json.dumps([invoice.document(parties=True) for invoice in found]))
        return
    _listed(found, "The month is closed; nothing in it costs.")


@app.command()
def export(
    *,
    to: Annotated[Path | None, typer.Option(help="Folder for JSON, HTML and PDF files.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that gets each invoice.")] = None,
    variable: Annotated[
        str, typer.Option("--secret-env", help="Variable with the webhook's secret.")
    ] = "WHERRY_WEBHOOK_SECRET",
    stripe: Annotated[str | None, typer.Option(help="Stripe's id of the customer.")] = None,
    consumer: Annotated[str | None, typer.Option(help="Only theirs.")] = None,
    after: After = 0,
    state: State = None,
) -> None:
    """Give invoices to other programs: files, a webhook, or Stripe's invoice items on a line."""
    if sum(each is not None for each in (to, webhook, stripe)) != 1:
        raise StartError("export: expected exactly one of --to, --webhook and --stripe")
    if stripe is not None and consumer is None:
        raise StartError("export --stripe: no --consumer, expected whose customer id it is")
    from gateway.billing.export import Webhook, files, stripe_items  # noqa: PLC0415

    found = _run(state, lambda desk: desk.invoices(consumer, after=after, limit=MAX_PAGE))
    if webhook is not None:
        hook = Webhook(webhook, _secret(variable), SystemClock())
        asyncio.run(hook.send(found))
    for invoice in found:
        if to is not None:
            files(invoice, to)
        for item in stripe_items(invoice, stripe) if stripe is not None else ():
            typer.echo(json.dumps(item))
    last = found[-1].number if found else after
    typer.echo(f"{len(found)} invoices; the next time: --after {last}", err=True)


@credit.command()
def add(
    consumer: Consumer,
    amount: Annotated[str, typer.Argument(help="Like 25.00; below 0 takes away, after --.")],
    currency: Annotated[str, typer.Argument(help="Like EUR.")],
    *,
    reason: Annotated[str, typer.Option(help="One sentence, shown to the consumer.")],
    each: Annotated[
        str | None, typer.Option("--id", help="Your own; the same again is not counted.")
    ] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Give a consumer credit."""
    found = _run(
        state,
        lambda desk: desk.add_credit(
            consumer, amount, currency, reason=reason, by=_who(), each=each
        ),
    )
    _credit(found, as_json=as_json)


@credit.command("show")
def show_credit(consumer: Consumer, state: State = None, as_json: AsJson = False) -> None:
    """Show a consumer's credit and how it came about."""
    _credit(_run(state, lambda desk: desk.credit(consumer)), as_json=as_json)


def _run(state: Path | None, work: Callable[[Desk], Awaitable[T]]) -> T:
    folder = state_dir(state)
    stores.expect_used(folder)

    async def main() -> T:
        async with stores.kept(folder) as store:
            return await work(Desk(store, SystemClock()))

    return asyncio.run(main())


def _who() -> str:
    """Return who changes money here, in the ledger and the audit log."""
    return f"command by {getpass.getuser()}"


def _secret(variable: str) -> bytes:
    secret = os.environ.get(variable, "")
    if not secret:
        raise StartError(f"export --webhook: {variable} is not set, expected the webhook's secret")
    return secret.encode()


def _listed(invoices: Iterable[Invoice], otherwise: str) -> None:
    table = Table("number", "consumer", "month", "currency", box=None)
    for column in ("total", "credit", "due"):
        table.add_column(column, justify="right")
    for invoice in invoices:
        amounts = map(invoice.money, (invoice.total, invoice.credit, invoice.due))
        about = (invoice.name, invoice.consumer, str(invoice.month), invoice.currency)
        table.add_row(*about, *amounts)
    Console().print(table if table.row_count else otherwise)


def _print(invoice: Invoice) -> None:
    typer.echo(f"Invoice {invoice.name}, {invoice.month.title}, {invoice.title}")
    table = Table("product", "plan", "what", box=None)
    for column in ("quantity", "unit", invoice.currency):
        table.add_column(column, justify="right")
    for line in invoice.lines:
        charge = line.charge
        quantity = "" if charge.quantity is None else f"{charge.quantity:,}"
        amount = invoice.money(charge.amount)
        table.add_row(line.product, line.plan, charge.text, quantity, charge.unit or "", amount)
    for name, due in (
        ("total", invoice.total),
        ("credit", -invoice.credit),
        ("due", invoice.due),
    ):
        table.add_row("", "", name, "", "", invoice.money(due))
    Console().print(table)


def _credit(found: Credit, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.document()))
        return
    typer.echo(_sums(found.balances.items()) or "No credit.")
    if found.unbilled:
        typer.echo(f"The open month comes to {_sums(found.unbilled.items())} so far.")
    for entry in found.entries:
        typer.echo(f"  {spelled(entry.amount, entry.currency)} {entry.currency}  {entry.reason}")


def _sums(amounts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{spelled(amount, code)} {code}" for code, amount in sorted(amounts))
