"""One measured figure, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`bar` says in words what `ok` was judged by; both are None where nothing is demanded."""

    name: str
    value: float
    unit: str
    bar: str | None = None
    ok: bool | None = None


def at_least(name: str, value: float, unit: str, bar: float) -> Row:
    """A figure that must not be below `bar`."""
    return Row(name, value, unit, f">= {bar:g}", value >= bar)


def at_most(name: str, value: float, unit: str, bar: float) -> Row:
    """A figure that must not be above `bar`."""
    return Row(name, value, unit, f"<= {bar:g}", value <= bar)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, columns aligned."""
    verdict = {None: "", True: "ok", False: "MISSED"}
    cells = [("measured", "value", "unit", "bar", "")]
    cells += [(r.name, shown(r.value), r.unit, r.bar or "", verdict[r.ok]) for r in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d:<{widths[3]}}  {e}".rstrip()
        for a, b, c, d, e in cells
    )


def shown(value: float) -> str:
    """Three significant digits, or all of a larger whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
