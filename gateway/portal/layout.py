"""The frame that every page stands in, and the pieces that pages share."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.portal.markup import Child, Html, el, joined

_SIGNED_IN = (
    ("/", "Products"),
    ("/keys", "Keys"),
    ("/usage", "Usage"),
    ("/invoices", "Invoices"),
    ("/account", "Account"),
)
_STRANGER = (("/", "Products"), ("/sign-in", "Sign in"), ("/sign-up", "Sign up"))


@dataclass(frozen=True, slots=True)
class Frame:
    """What a page shows around its content.

    Attributes:
        title: Of the page.
        here: Path of the entry of the menu that it belongs to.
        guard: What its forms send back; see `gateway.portal.sessions`.
        name: Who is signed in; None is nobody.
        said: What just happened.
        warned: What they should know on every page.
    """

    title: str
    here: str
    guard: str
    name: str | None = None
    said: str | None = None
    warned: str | None = None


def page(frame: Frame, *content: Child) -> str:
    """Return the whole document."""
    body = el(
        "body",
        el("a", "Skip to content", class_="skip", href="#main"),
        _top(frame),
        el("main", _warned(frame), _said(frame), *content, id="main", tabindex="-1"),
        el("footer", el("p", "Wherry developer portal"), class_="foot"),
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="guard", content=frame.guard),
        el("title", f"{frame.title} · Developer portal"),
        el("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        el("link", rel="stylesheet", href="/static/portal.css"),
        el("script", src="/static/theme.js"),
        el("script", src="/static/portal.js", type="module"),
    )
    return "<!doctype html>\n" + el("html", head, body, lang="en")


def heading(title: str, about: Child = None) -> Html:
    """Return the top of a page's content."""
    return el(
        "div", el("h1", title), el("p", about, class_="lead") if about else None, class_="head"
    )


def form(
    frame: Frame,
    action: str,
    *content: Child,
    label: str | None = None,
    class_: str | None = None,
) -> Html:
    """Return a form that posts to ``action``, with its guard."""
    guard = el("input", type="hidden", name="guard", value=frame.guard)
    return el(
        "form", guard, *content, method="post", action=action, aria_label=label, class_=class_
    )


def entry(
    name: str,
    label: str,
    *,
    fault: str | None = None,
    hint: str | None = None,
    **attributes: str | int | bool | None,
) -> Html:
    """Return a labelled input, with what is wrong with it and a hint where there is one."""
    notes = [key for key, given in (("hint", hint), ("fault", fault)) if given]
    described = " ".join(f"{name}-{key}" for key in notes) or None
    return el(
        "div",
        el("label", label, for_=name),
        el("p", hint, class_="hint", id=f"{name}-hint") if hint else None,
        el(
            "input",
            id=name,
            name=name,
            aria_describedby=described,
            aria_invalid="true" if fault else None,
            **attributes,
        ),
        el("p", fault, class_="fault", id=f"{name}-fault") if fault else None,
        class_="entry",
    )


def choice(
    name: str,
    label: str,
    options: Sequence[tuple[str, str]],
    chosen: str = "",
    **attributes: str | int | bool | None,
) -> Html:
    """Return a labelled choice among ``(value, words)``; its id is ``name``."""
    listed = [el("option", words, value=each, selected=each == chosen) for each, words in options]
    return el(
        "div",
        el("label", label, for_=name),
        el("select", *listed, id=name, name=name, **attributes),
        class_="entry",
    )


def button(label: str, *, kind: str = "primary", **attributes: str | int | bool | None) -> Html:
    """Return a button that sends its form."""
    return el("button", label, class_=f"button {kind}", type="submit", **attributes)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """Return a table; the first cell of each row names it."""
    head = el("tr", *(el("th", name, scope="col") for name in columns))
    body = [
        el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:]))
        for row in rows
    ]
    made = el(
        "table", el("caption", caption, class_="unseen"), el("thead", head), el("tbody", *body)
    )
    return el("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)


def paragraphs(text: str) -> Html:
    """Return text as paragraphs, which empty lines part; code stands between backticks."""
    parts = [part.strip() for part in text.replace("\r\n", "\n").split("\n\n")]
    return joined(el("p", *_coded(part)) for part in parts if part)


def _coded(part: str) -> list[Child]:
    pieces = part.split("`")
    if len(pieces) % 2 == 0:
        return [part]
    return [el("code", piece) if n % 2 else piece for n, piece in enumerate(pieces)]


def _top(frame: Frame) -> Html:
    entries = _SIGNED_IN if frame.name is not None else _STRANGER
    links = [
        el("li", el("a", label, href=path, aria_current="page" if path == frame.here else None))
        for path, label in entries
    ]
    out = (
        form(frame, "/sign-out", button("Sign out", kind="quiet"), label="Sign out")
        if frame.name is not None
        else None
    )
    theme = el(
        "button",
        el("span", class_="theme-mark", aria_hidden="true"),
        el("span", "Dark", class_="theme-name"),
        type="button",
        id="theme",
        class_="button quiet theme",
        aria_pressed="false",
        aria_label="Dark colours",
        hidden=True,
    )
    brand = el(
        "a", el("span", class_="mark", aria_hidden="true"), "Wherry", class_="brand", href="/"
    )
    return el(
        "header",
        brand,
        el("nav", el("ul", *links), aria_label="Main"),
        el("div", theme, out, class_="tools"),
        class_="top",
    )


def _said(frame: Frame) -> Html:
    return el("div", frame.said, class_="said" if frame.said else None, role="status")


def _warned(frame: Frame) -> Html | None:
    return el("p", frame.warned, class_="warned") if frame.warned else None
