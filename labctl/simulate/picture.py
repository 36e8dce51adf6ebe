"""Runs as one SVG picture: the nodes that were needed, and those that each policy had serving."""

from __future__ import annotations

from html import escape

from labctl.simulate.model import Run
from labctl.ui.marks import peaks

WIDTH, PANEL, LEFT, TOP, GAP = 1100, 110, 46, 34, 34  # pixels
NEEDED, SERVING, SHORT = "#9aa4b2", "#1f6feb", "#d1242f"
STYLE = "text{font:12px sans-serif;fill:#444} .t{font-weight:bold}"


def svg(runs: dict[str, Run], needed: list[int], most: int) -> str:
    """A self-contained SVG text: one panel for each run, `needed` grey in all of them.

    `needed` has one entry a tick, as the runs; red marks where fewer served than were needed.
    """
    height = TOP + len(runs) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 10} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="16">'
        f'<tspan fill="{NEEDED}">needed</tspan> <tspan fill="{SERVING}">serving</tspan> '
        f'<tspan fill="{SHORT}">too few</tspan></text>',
    ]
    for number, (name, run) in enumerate(runs.items()):
        parts.append(_panel(name, run, needed, most, TOP + number * (PANEL + GAP)))
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, run: Run, needed: list[int], most: int, top: int) -> str:
    columns = min(WIDTH, len(needed))
    want = peaks(needed, columns)
    have = peaks(run.serving, columns)
    missing = [s - n for s, n in zip(run.serving, needed, strict=True)]
    short = [-value < 0 for value in peaks([-m for m in missing], columns)]
    scale = PANEL / max(1, most)
    hours = len(needed) * run.interval_s / 3600.0
    marks = "".join(
        f'<rect x="{_x(i, columns)}" y="{top}" width="1.5" height="4" fill="{SHORT}"/>'
        for i, is_short in enumerate(short)
        if is_short
    )
    bottom = top + PANEL
    return (
        f'<text class="t" x="{LEFT}" y="{top - 5}">{escape(name)}</text>'
        f'<text x="4" y="{top + 10}">{most}</text><text x="4" y="{bottom}">0</text>'
        f'<text x="{LEFT + WIDTH - 60}" y="{top - 5}">{hours:.1f} hours</text>'
        f'<path fill="{NEEDED}" fill-opacity="0.4" d="{_area(want, bottom, scale)}"/>'
        f'<path fill="none" stroke="{SERVING}" d="{_steps(have, bottom, scale)}"/>{marks}'
    )


def _x(column: int, columns: int) -> str:
    return f"{LEFT + WIDTH * column / columns:.1f}"


def _steps(values: list[int], bottom: int, scale: float) -> str:
    points = []
    for i, value in enumerate(values):
        if i == 0 or value != values[i - 1]:
            points.append(f"{'H' if i else 'M'}{_x(i, len(values))}{' ' if not i else ' V'}")
            points.append(f"{bottom - value * scale:.1f} ")
    return "".join([*points, f"H{LEFT + WIDTH}"])


def _area(values: list[int], bottom: int, scale: float) -> str:
    return f"{_steps(values, bottom, scale)} V{bottom} H{LEFT} Z"
