"""A run while it goes on: a line per node on a terminal, a line per event elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.live import Live
from rich.table import Table

from labcore.wire.event import Event, EventKind
from labctl.follow import Run
from labctl.ui import marks
from labctl.ui.console import living_picture, progress_console, unicode_ok
from labctl.ui.plain import note
from labctl.ui.tables import make_table

_TOLD = (EventKind.GATE, EventKind.PORT, EventKind.PROBLEM, EventKind.MEMBERSHIP, EventKind.LAB)


@contextlib.contextmanager
def run_progress(gates: Sequence[str]) -> Iterator[RunProgress]:
    """Show a run on stderr; `gates` are the steps of a node, in order. The last picture stays."""
    with living_picture() as live:
        yield RunProgress(gates, live)


class RunProgress:
    """Shows a run, event by event."""

    def __init__(self, gates: Sequence[str], live: Live | None) -> None:
        self._gates = tuple(gates)
        self._live = live
        self._fancy = unicode_ok(progress_console())

    def show(self, run: Run, event: Event) -> None:
        """Show what `event`, which `run` has taken in already, changed."""
        if self._live is not None:
            self._live.update(self._picture(run), refresh=True)
        elif event.kind in _TOLD:
            # A message of a node begins with its name by itself.
            note(f"{event.at[11:19]} {event.message}")

    def _picture(self, run: Run) -> Table:
        rows = []
        for name in sorted(run.nodes, key=lambda n: (run.nodes[n].gates == {}, n)):
            node = run.nodes[name]
            done = [gate for gate in self._gates if gate in node.gates]
            seconds = f"{max(node.gates.values()):.1f} s" if node.gates else ""
            now = node.problem or node.doing or (done[-1] if done else "")
            # A node that nothing is routed to never serves, and is done all the same.
            steps = len(self._gates) if run.state == "up" else len(done)
            picture = marks.bar(steps, len(self._gates), fancy=self._fancy)
            rows.append((name, picture, now, seconds))
        return make_table(("", "", "", ">"), rows)
