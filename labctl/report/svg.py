"""The few parts of SVG that the charts are made of. Everything that is text is escaped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float | None]


def tag(name: str, *content: str | Markup, **attributes: object) -> Markup:
    """An element. `class_` is the attribute class, `stroke_width` is stroke-width."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(part) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)  # noqa: S704


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Axis:
    """Maps low..high to pixels from..to, in a straight line."""

    low: float
    high: float
    begin_px: float
    end_px: float

    def px(self, value: float) -> float:
        """Where a value is drawn; values outside are drawn at the edge."""
        inside = min(max(value, self.low), self.high)
        part = (inside - self.low) / ((self.high - self.low) or 1.0)
        return self.begin_px + part * (self.end_px - self.begin_px)


def nice_step(span: float, most_ticks: int) -> float:
    """The smallest of 1, 2, 5 times 10^n that divides `span` into at most `most_ticks` parts."""
    rough = max(span, 1e-9) / most_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    return next((m * power for m in (1, 2, 5) if m * power >= rough * (1 - 1e-9)), 10 * power)


def ticks(high: float, step: float) -> list[float]:
    """0, step, 2·step, ... up to `high`."""
    return [n * step for n in range(math.floor(high / step + 1e-9) + 1)]


def time_step(seconds: float) -> float:
    """A step for a time axis: 5, 10, 20, 30 or 60 s, or minutes of a nice number."""
    for step in (5, 10, 20, 30, 60):
        if seconds / step <= 12:
            return float(step)
    return 60.0 * math.ceil(nice_step(seconds / 60, 12))


def clock_text(seconds: float) -> str:
    """Minutes and seconds: 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def line(points: Iterable[Point], x: Axis, y: Axis, **attributes: object) -> Markup:
    """A line that is broken where a value is missing. A lone point becomes a dot."""
    parts: list[str] = []
    for present, run in itertools.groupby(points, key=lambda point: point[1] is not None):
        if present:
            parts.append(_path([(x.px(a), y.px(b or 0.0)) for a, b in run]))
    shape = {"fill": "none", "stroke_linejoin": "round", "stroke_linecap": "round"}
    return tag("path", d=" ".join(parts), **shape, **attributes) if parts else Markup("")


def area(points: Sequence[Point], x: Axis, y: Axis, **attributes: object) -> Markup:
    """The surface between a line and 0; a missing value counts as 0."""
    if not points:
        return Markup("")
    pixels = [(x.px(a), y.px(b or 0.0)) for a, b in points]
    ground = y.px(0.0)
    closed = [(pixels[0][0], ground), *pixels, (pixels[-1][0], ground)]
    return tag("path", d=_path(closed) + " Z", **attributes)


def _path(pixels: Sequence[tuple[float, float]]) -> str:
    first, *rest = [f"{a:.1f} {b:.1f}" for a, b in pixels]
    return f"M{first} " + " ".join(f"L{point}" for point in rest or [first])
