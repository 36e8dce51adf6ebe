"""Where the time of an `up` went: a row per node, a column per gate, bars on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labctl.ui import marks
from labctl.ui.console import looked_at, progress_console, unicode_ok
from labctl.ui.plain import note
from labctl.ui.tables import make_table

WORTH_TELLING_S = 0.5
WIDEST, NARROWEST = 40, 8

Steps = Mapping[str, Mapping[str, float]]  # node -> gate -> the seconds it took, in order


def show_waterfall(steps: Steps, gates: Sequence[str]) -> None:
    """On stderr: a table for whoever looks, plain lines elsewhere; nothing where all was quick."""
    totals = {node: sum(took.values()) for node, took in steps.items()}
    if max(totals.values(), default=0.0) < WORTH_TELLING_S:
        return
    if not looked_at("stderr"):
        for node, took in steps.items():
            told = ", ".join(f"{gate} {seconds:.1f} s" for gate, seconds in took.items())
            note(f"{node}: {totals[node]:.1f} s: {told}")
        return
    console = progress_console()
    columns = [gate for gate in gates if any(gate in took for took in steps.values())]
    wide = [max(len(node) for node in steps), *(len(gate) for gate in columns), len("seconds")]
    width = max(NARROWEST, min(WIDEST, console.width - sum(wide) - 2 * len(wide)))
    rows = [
        (
            node,
            *(f"{took[gate]:.1f}" if gate in took else "" for gate in columns),
            f"{totals[node]:.1f}",
            marks.segments(
                tuple(took.values()), max(totals.values()), width, fancy=unicode_ok(console)
            ),
        )
        for node, took in steps.items()
    ]
    console.print(make_table(("", *(f"{gate}>" for gate in columns), "seconds>", ""), rows))
