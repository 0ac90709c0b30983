"""Usage as pictures that also read as tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.portal.markup import Html, el

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 20, 30, 38
_TICKS = 4
_LABELS = 7


@dataclass(frozen=True, slots=True)
class Bar:
    """One step of time.

    Attributes:
        label: Of the axis and the table.
        amount: At least 0.
    """

    label: str
    amount: int


@dataclass(frozen=True, slots=True)
class Plot:
    """What a picture shows.

    Attributes:
        id: Unique on the page.
        title: Names the picture.
        about: Says in a sentence what can be seen.
        unit: Of the amounts.
        bars: In order of time; for a line, sums up to each step.
        limit: Drawn as a line across; None draws none.
        until: How many of the bars have happened; a line ends there.
    """

    id: str
    title: str
    about: str
    unit: str
    bars: Sequence[Bar]
    limit: int | None = None
    until: int | None = None


def ceiling(most: int) -> int:
    """Return the top of an axis that shows ``most``, so that every tick is a round number."""
    power = 1
    while True:
        for step in (1, 2, 2.5, 5):
            tick = step * power
            if tick == int(tick) and tick * _TICKS >= most:
                return int(tick) * _TICKS
        power *= 10


def short(amount: int) -> str:
    """Return a number as an axis shows it: ``950``, ``1.5k``, ``20M``."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if amount >= size:
            return f"{amount / size:.3g}{letter}"
    return str(amount)


def columns(plot: Plot) -> Html:
    """Draw a column for each step."""
    top = ceiling(_most(plot))
    step = _inner() / max(1, len(plot.bars))
    width = max(1.0, min(36.0, step * 0.7))
    drawn = [
        el(
            "rect",
            class_="bar",
            x=f"{_LEFT + step * (place + 0.5) - width / 2:.1f}",
            y=f"{_y(bar.amount, top):.1f}",
            width=f"{width:.1f}",
            height=f"{_y(0, top) - _y(bar.amount, top):.1f}",
            rx=min(3, round(width / 4)),
        )
        for place, bar in enumerate(plot.bars)
        if bar.amount
    ]
    return _figure(plot, top, drawn)


def line(plot: Plot) -> Html:
    """Draw one line through the steps, with what is under it shaded."""
    top = ceiling(_most(plot))
    step = _inner() / max(1, len(plot.bars))
    seen = plot.bars[: plot.until]
    points = [(float(_LEFT), _y(0, top))]
    points += [(_LEFT + step * (n + 1), _y(bar.amount, top)) for n, bar in enumerate(seen)]
    way = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    end_x, end_y = points[-1]
    drawn = [
        el("path", class_="area", d=f"M{way} L{end_x:.1f} {_y(0, top):.1f} Z"),
        el("path", class_="curve", d=f"M{way}"),
        el("circle", class_="now", cx=f"{end_x:.1f}", cy=f"{end_y:.1f}", r=4),
    ]
    return _figure(plot, top, drawn)


def _figure(plot: Plot, top: int, drawn: list[Html]) -> Html:
    svg = el(
        "svg",
        el("title", plot.title, id=f"{plot.id}-title"),
        el("desc", plot.about, id=f"{plot.id}-about"),
        *_axis(top),
        *_labels(plot),
        *drawn,
        *_limit(plot, top),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_labelledby=f"{plot.id}-title {plot.id}-about",
        class_="plot",
    )
    return el(
        "figure",
        el("figcaption", el("strong", plot.title), el("span", plot.about)),
        svg,
        el("details", el("summary", "Show as a table"), _table(plot)),
        class_="card figure",
    )


def _table(plot: Plot) -> Html:
    rows = [
        el("tr", el("th", bar.label, scope="row"), el("td", f"{bar.amount:,}", class_="number"))
        for bar in plot.bars[: plot.until]
    ]
    what = f"{plot.unit.capitalize()}{' so far' if plot.limit is not None else ''}"
    head = el("tr", el("th", "When", scope="col"), el("th", what, scope="col", class_="number"))
    caption = el("caption", plot.title, class_="unseen")
    table = el("table", caption, el("thead", head), el("tbody", *rows))
    return el("div", table, class_="scroll", tabindex=0, role="region", aria_label=plot.title)


def _axis(top: int) -> list[Html]:
    drawn = []
    for tick in range(_TICKS + 1):
        amount = top * tick // _TICKS
        y = f"{_y(amount, top):.1f}"
        drawn.append(el("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        drawn.append(
            el(
                "text",
                short(amount),
                class_="tick",
                x=_LEFT - 10,
                y=y,
                dy="0.32em",
                text_anchor="end",
            )
        )
    return drawn


def _labels(plot: Plot) -> list[Html]:
    """Name some of the steps; on small screens every second of these goes."""
    count = len(plot.bars)
    step = _inner() / max(1, count)
    every = max(1, -(-count // _LABELS))
    return [
        el(
            "text",
            plot.bars[place].label,
            class_="tick minor" if turn % 2 else "tick",
            x=f"{_LEFT + step * (place + 0.5):.1f}",
            y=_HEIGHT - 10,
            text_anchor="middle",
        )
        for turn, place in enumerate(range(0, count, every))
    ]


def _limit(plot: Plot, top: int) -> list[Html]:
    if plot.limit is None:
        return []
    y = _y(plot.limit, top)
    return [
        el(
            "line",
            class_="limit",
            x1=_LEFT,
            x2=_WIDTH - _RIGHT,
            y1=f"{y:.1f}",
            y2=f"{y:.1f}",
        ),
        el(
            "text",
            f"Quota {plot.limit:,}",
            class_="limit-name",
            x=_LEFT + 8,
            y=f"{y - 6:.1f}",
            text_anchor="start",
        ),
    ]


def _most(plot: Plot) -> int:
    return max([*(bar.amount for bar in plot.bars), plot.limit or 0, 1])


def _inner() -> float:
    return _WIDTH - _LEFT - _RIGHT


def _y(amount: int, top: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * amount / top
