"""HTML as values: text is escaped unless it is `Html` already."""

from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "circle", "hr", "img", "input", "line", "link", "meta", "path", "rect"})
"""Elements that hold nothing."""


class Html(str):
    """Text that is HTML; only `el`, `text` and `joined` make it."""

    __slots__ = ()


Child = Html | str | int | None
Attribute = str | int | float | bool | None


def text(given: str | int) -> Html:
    """Return ``given`` as HTML that shows it."""
    return Html(escape(str(given)))


def joined(children: Iterable[Child]) -> Html:
    """Return the children one after the other; None is left out."""
    return Html(
        "".join(
            child if isinstance(child, Html) else text(child)
            for child in children
            if child is not None
        )
    )


def el(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """Return an element.

    Args:
        name: Of the element; never from a user.
        children: Text is escaped; None is left out.
        attributes: A last ``_`` is dropped, others become ``-``; True stands alone, False and
            None are left out. Values are escaped.
    """
    written = "".join(
        f" {_named(key)}" if value is True else f' {_named(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{written}>" if name not in _SHAPES else f"<{name}{written}/>")
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


_SHAPES = frozenset({"circle", "line", "path", "rect"})


def _named(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
