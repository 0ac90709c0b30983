"""Plots as SVG, without a library."""

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 300, 64, 40, 16, 44


def line_plot(title: str, unit: str, across: str, points: Sequence[tuple[float, float]]) -> str:
    """Return a line through ``points`` with its axes, from 0 up.

    Args:
        title: Above the plot.
        unit: Of the values.
        across: What the first numbers are.
        points: In order of the first numbers; at least two.
    """
    last = points[-1][0]
    top = _rounded_up(max(value for _, value in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    path = " ".join(
        f"{LEFT + at / last * wide:.1f},{TOP + high - value / top * high:.1f}"
        for at, value in points
    )
    lines = []
    for step in range(5):
        y = TOP + high - step / 4 * high
        lines.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * step / 4:g}</text>'
        )
        x = LEFT + step / 4 * wide
        lines.append(
            f'<text x="{x:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{last * step / 4:.0f}</text>'
        )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>{title}</title>
<style>
text {{ font: 12px sans-serif; fill: #555 }} .head {{ font-size: 14px; fill: #222 }}
.grid {{ stroke: #ddd }} .line {{ fill: none; stroke: #1f6feb; stroke-width: 2 }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #aaa }} .head {{ fill: #eee }} .grid {{ stroke: #444 }} .line {{ stroke: #6cb6ff }}
}}
</style>
<text x="{LEFT}" y="22" class="head">{title}, {unit}</text>
{chr(10).join(lines)}
<text x="{LEFT + wide / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{across}</text>
<polyline points="{path}" class="line"/>
</svg>
"""


def _rounded_up(value: float) -> float:
    size = 1.0
    while True:
        for step in (1, 2, 4, 5):
            if value <= step * size:
                return step * size
        size *= 10
