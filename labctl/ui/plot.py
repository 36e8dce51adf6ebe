"""Simulated runs as lines of marks, a column for each stretch of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labctl.ui import marks
from labctl.ui.console import result_console, unicode_ok

WIDTH = 80
LONGEST_NAME = 20
SHORT = "!"


def lines(needed: Sequence[int], runs: Mapping[str, Sequence[int]], most: int) -> list[str]:
    """The nodes that were needed, and under that those which each run had serving, the most of
    each stretch; below a run, marks where it had too few."""
    return drawn(needed, runs, most, fancy=unicode_ok(result_console()))


def drawn(
    needed: Sequence[int], runs: Mapping[str, Sequence[int]], most: int, *, fancy: bool
) -> list[str]:
    """See `lines`; in ASCII unless `fancy`."""
    names = [name[:LONGEST_NAME] for name in ("needed", *runs)]
    left = max(map(len, names)) + 2
    columns = min(WIDTH - left, len(needed))

    def row(name: str, values: Sequence[int]) -> str:
        line = marks.sparkline(marks.peaks(values, columns), columns, fancy=fancy, top=most)
        return f"{name:<{left}}{line}"

    found = [row(names[0], needed)]
    for name, serving in zip(names[1:], runs.values(), strict=True):
        missing = [max(0, n - s) for n, s in zip(needed, serving, strict=True)]
        short = "".join(SHORT if m else " " for m in marks.peaks(missing, columns)).rstrip()
        found.append(row(name, serving))
        if short:
            found.append(f"{'':<{left}}{short}")
    per_column = len(needed) / columns
    return [*found, f"0 to {most} nodes; {SHORT} too few; {per_column:.0f} decisions a column"]
