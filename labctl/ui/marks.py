"""Small drawings of one line: sparklines, bars, figures."""

from __future__ import annotations

from collections.abc import Sequence

_SPARKS = {True: "▁▂▃▄▅▆▇█", False: "_.-=+*#@"}


def sparkline(values: Sequence[float], width: int, *, fancy: bool, top: float = 100.0) -> str:
    """The last `width` values as one character each, from 0 to `top`."""
    marks = _SPARKS[fancy]
    last = [min(max(value / top, 0.0), 1.0) for value in values[-width:]]
    return "".join(marks[min(int(part * len(marks)), len(marks) - 1)] for part in last)


def peaks(values: Sequence[int], columns: int) -> list[int]:
    """`values` in so many columns: the largest of each, so that no short peak is lost."""
    edges = [len(values) * i // columns for i in range(columns + 1)]
    return [max(values[edges[i] : edges[i + 1]]) for i in range(columns)]


def bar(done: int, steps: int, *, fancy: bool) -> str:
    """How many of `steps` are done."""
    full, empty = ("■", "·") if fancy else ("#", ".")
    return full * done + empty * (steps - done)


def length(part: float, whole: float, width: int, *, fancy: bool) -> str:
    """A bar whose length is `part` of `whole`; one mark at least."""
    cells = max(1, round(width * part / whole)) if whole > 0 else 1
    return ("━" if fancy else "=") * min(cells, width)


def segments(parts: Sequence[float], whole: float, width: int, *, fancy: bool) -> str:
    """A bar of parts, one behind the other in two marks by turns; `whole` is `width` long.

    Each part ends where it would if none was rounded; one that is too short is not seen.
    """
    bar, end = "", 0.0
    for index, part in enumerate(parts):
        end += part
        cells = round(width * end / whole) if whole > 0 else 0
        mark = ("█░" if fancy else "#-")[index % 2]
        bar += mark * (min(cells, width) - len(bar))
    return bar


def figure(value: float | None, unit: str = "") -> str:
    """A figure, or `-` where there is none."""
    return "-" if value is None else f"{value:.0f}{unit}"
