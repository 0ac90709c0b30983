"""An invoice as a PDF. The same invoice is always the same bytes."""

from collections.abc import Iterator
from html import escape
from io import BytesIO
from itertools import groupby
from typing import Any

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from gateway.billing.invoices import Invoice
from gateway.billing.page import NOTE, grouped, sums
from gateway.billing.statement import Line

_INK, _QUIET, _LINE, _ACCENT = map(HexColor, ("#1c2430", "#566173", "#d8dee6", "#0b5d7a"))
_PADDING = 6
"""Points that a page's frame keeps free by itself."""

_WIDTHS = (77 * mm, 30 * mm, 30 * mm, 33 * mm)
_SUM = 44 * mm
_BLOCKS = (
    ("HeiseiKakuGo-W5", ((0x0370, 0x04FF), (0x3000, 0x30FF), (0xFF00, 0xFFEF))),
    ("STSong-Light", ((0x3400, 0x4DBF), (0x4E00, 0x9FFF))),
    ("HYGothic-Medium", ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF))),
)


def pdf(invoice: Invoice) -> bytes:
    """Return ``invoice`` as a PDF of A4 pages.

    Latin letters come with the file; Greek, Cyrillic, Chinese, Japanese and Korean ones are the
    reader's; others are shown as ``?``, and the page has them all.
    """
    _register()
    out = BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=20 * mm - _PADDING,
        rightMargin=20 * mm - _PADDING,
        topMargin=20 * mm,
        bottomMargin=22 * mm,
        title=f"Invoice {invoice.name}",
        author="",
        invariant=1,
        lang="en",
    )
    name = f"Invoice {invoice.name}"

    def footer(canvas: Canvas, _: object) -> None:
        canvas.setFont("Wherry", 7.5)
        canvas.setFillColor(_QUIET)
        canvas.drawString(20 * mm, 12 * mm, name)
        canvas.drawRightString(A4[0] - 20 * mm, 12 * mm, f"page {canvas.getPageNumber()}")

    document.build(list(_story(invoice)), onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def _register() -> None:
    if "Wherry" in pdfmetrics.getRegisteredFontNames():
        return
    pdfmetrics.registerFont(TTFont("Wherry", "Vera.ttf"))
    pdfmetrics.registerFont(TTFont("Wherry-Bold", "VeraBd.ttf"))
    pdfmetrics.registerFontFamily("Wherry", normal="Wherry", bold="Wherry-Bold")
    for font, _ in _BLOCKS:
        pdfmetrics.registerFont(UnicodeCIDFont(font))


_TEXT = ParagraphStyle("text", fontName="Wherry", fontSize=9, leading=13, textColor=_INK)
_SMALL = ParagraphStyle("small", _TEXT, fontSize=8, leading=11, textColor=_QUIET)
_TITLE = ParagraphStyle("title", _TEXT, fontName="Wherry-Bold", fontSize=17, leading=22)
_NUMBER = ParagraphStyle("number", _TEXT, alignment=TA_RIGHT)
_HEAD = ParagraphStyle("head", _SMALL, fontName="Wherry-Bold")
_HEAD_NUMBER = ParagraphStyle("headnumber", _HEAD, alignment=TA_RIGHT)
_DUE = ParagraphStyle(
    "due", _NUMBER, fontName="Wherry-Bold", fontSize=11, leading=15, textColor=_ACCENT
)


def _story(invoice: Invoice) -> Iterator[Flowable]:
    first, last = invoice.days
    facts = [
        ("Issued", invoice.issued.isoformat()),
        ("From", first.isoformat()),
        ("To", last.isoformat()),
        ("Time zone", invoice.zone),
    ]
    titles = [_said(f"Invoice {invoice.name}", _TITLE), _said(invoice.month.title, _SMALL)]
    rows = [[_said(name, _SMALL), _said(value, _TEXT)] for name, value in facts]
    inner = Table(rows, colWidths=(24 * mm, 40 * mm), style=_TIGHT)
    yield Table([[titles, inner]], colWidths=(106 * mm, 64 * mm), style=_TIGHT)
    yield Spacer(0, 10 * mm)
    yield _said("Billed to", _SMALL)
    yield _said(invoice.title, ParagraphStyle("payer", _TEXT, fontName="Wherry-Bold"))
    if invoice.title != invoice.consumer:
        yield _said(invoice.consumer, _TEXT)
    if invoice.email:
        yield _said(invoice.email, _TEXT)
    yield Spacer(0, 8 * mm)
    yield _lines(invoice)
    yield Spacer(0, 4 * mm)
    yield _sums(invoice)
    yield Spacer(0, 10 * mm)
    yield _said(NOTE, _SMALL)


_TIGHT = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
    ]
)


def _lines(invoice: Invoice) -> Table:
    heads = ["Quantity", "Unit price", f"Amount, {invoice.currency}"]
    rows: list[list[Flowable | str]] = [
        [_said("What", _HEAD), *(_said(head, _HEAD_NUMBER) for head in heads)]
    ]
    style: list[tuple[str, tuple[int, int], tuple[int, int], *tuple[Any, ...]]] = [
        ("LINEBELOW", (0, 0), (-1, 0), 0.75, _QUIET),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
        ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
    ]
    for (name, plan), lines in grouped(invoice):
        style += [
            ("SPAN", (0, len(rows)), (-1, len(rows))),
            ("TOPPADDING", (0, len(rows)), (-1, len(rows)), 8),
            ("NOSPLIT", (0, len(rows)), (-1, len(rows) + 1)),
        ]
        heading = f"<b>{_shown(name)}</b> <font color='#566173'>{_shown(plan)}</font>"
        rows.append([Paragraph(heading, _TEXT), "", "", ""])
        for line in lines:
            style.append(("LINEBELOW", (0, len(rows)), (-1, len(rows)), 0.5, _LINE))
            rows.append(_row(invoice, line))
    return Table(rows, colWidths=_WIDTHS, style=TableStyle(style), repeatRows=1)


def _row(invoice: Invoice, line: Line) -> list[Flowable | str]:
    charge = line.charge
    return [
        _said(charge.text, _TEXT),
        _number("" if charge.quantity is None else f"{charge.quantity:,}", _WIDTHS[1]),
        _number(charge.unit or "", _WIDTHS[2]),
        _number(invoice.shown(charge.amount), _WIDTHS[3]),
    ]


def _sums(invoice: Invoice) -> Table:
    found = list(sums(invoice))
    styles = [_NUMBER] * (len(found) - 1) + [_DUE]
    rows = [
        [_said(name, style), _number(amount, _SUM, style)]
        for (name, amount), style in zip(found, styles, strict=True)
    ]
    style = TableStyle(
        [("RIGHTPADDING", (-1, 0), (-1, -1), 0), ("LEFTPADDING", (0, 0), (0, -1), 0)]
    )
    return Table(rows, colWidths=(sum(_WIDTHS) - _SUM, _SUM), style=style)


def _number(text: str, width: float, style: ParagraphStyle = _NUMBER) -> Paragraph:
    """Return ``text`` on one line, smaller where the column needs that."""
    inside = width - 2 * _PADDING - 1  # as floats do not add up
    needed = pdfmetrics.stringWidth(text, style.fontName, style.fontSize)
    if needed > inside:
        style = ParagraphStyle("long", style, fontSize=style.fontSize * inside / needed)
    return _said(text, style)


def _said(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(_shown(text), style)


def _shown(text: str) -> str:
    """Return ``text`` as markup, each run in a font that has it."""
    return "".join(_run(font, "".join(letters)) for font, letters in groupby(text, key=_font_of))


def _run(font: str, text: str) -> str:
    if not font:
        return "?" * len(text)
    return escape(text) if font == "Wherry" else f'<font name="{font}">{escape(text)}</font>'


def _font_of(letter: str) -> str:
    code = ord(letter)
    latin = pdfmetrics.getFont("Wherry")
    if isinstance(latin, TTFont) and code in latin.face.charToGlyph:
        return "Wherry"
    for font, blocks in _BLOCKS:
        if any(first <= code <= last for first, last in blocks):
            return font
    return ""
