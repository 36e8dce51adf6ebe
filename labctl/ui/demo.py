"""The demo on a terminal: lines with times, and below them a picture of the lab that lives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from labcore.wire.scaler import NodeStatus, ScalerStatus
from labctl.load.types import Progress
from labctl.report.story import Summary
from labctl.report.svg import clock_text
from labctl.ui import marks
from labctl.ui.console import living_picture, progress_console, result_console, unicode_ok
from labctl.ui.load import progress_line
from labctl.ui.plain import note
from labctl.ui.tables import make_table

PLAIN_EVERY_S = 10.0  # where nobody looks
BAR = 30
_STYLES = {"serving": "green", "booting": "yellow", "draining": "red", "unhealthy": "red"}


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A narrator on stderr. Its picture goes in the end, its lines stay."""
    with living_picture(transient=True) as live:
        yield Stage(live)


class Stage:
    """A labctl.demo.narrator.Narrator."""

    def __init__(self, live: Live | None) -> None:
        self._live = live
        # What is printed while a picture lives must go through the picture's own console.
        self._console = live.console if live is not None else progress_console()
        self._told_s = 0.0

    def act(self, at_s: float, title: str) -> None:
        """See Narrator."""
        if self._live is None:
            note(f"{clock_text(at_s):>5}  == {title}")
        else:
            self._console.print(Rule(Text(f"{clock_text(at_s)}  {title}", "bold"), align="left"))

    def tell(self, at_s: float, text: str) -> None:
        """See Narrator."""
        if self._live is None:
            note(f"{clock_text(at_s):>5}  {text}")
        else:
            time = Text(f"{clock_text(at_s):>5}  ", "dim")
            self._console.print(time.append(Text(text, "default")))

    def picture(self, at_s: float, status: ScalerStatus | None, load: Progress | None) -> None:
        """See Narrator."""
        if self._live is not None:
            self._live.update(_picture(self._console, status, load), refresh=True)
        elif at_s - self._told_s >= PLAIN_EVERY_S:
            self._told_s = at_s
            note(f"{clock_text(at_s):>5}  {_line(status, load)}")


def _picture(console: Console, status: ScalerStatus | None, load: Progress | None) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for node in status.nodes if status else ():
        style = _STYLES.get(node.phase, "dim")
        cpu = marks.length(node.cpu_percent or 0.0, 100.0, BAR, fancy=unicode_ok(console))
        bar = Text(cpu if node.cpu_percent is not None else "", style)
        table.add_row(node.node, Text(node.phase, style), _percent(node), bar)
    words = progress_line(load) if load else "no load"
    return Group(Text(), table, Text(words, "bold red" if load and load.failed else "bold"))


def _line(status: ScalerStatus | None, load: Progress | None) -> str:
    nodes = status.nodes if status else ()
    shown = [f"{n.node} {n.phase} {_percent(n)}".rstrip() for n in nodes if n.phase != "off"]
    return " | ".join([*shown, progress_line(load).strip() if load else "no load"])


def _percent(node: NodeStatus) -> str:
    return "" if node.cpu_percent is None else f"{node.cpu_percent:.0f} %"


def show_summary(summary: Summary) -> None:
    """The figures of a demo as a table on stdout."""

    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} s"

    times = summary.latency
    rows = [
        ("requests sent", f"{summary.requests_sent:,}"),
        ("requests lost", f"{summary.requests_failed:,}"),
        ("agents joined", str(summary.scale_out)),
        ("agents left", str(summary.scale_in)),
        ("lab up after", seconds(summary.up_s)),
        ("load to decision", seconds(summary.decide_out_s)),
        ("decision to serving", seconds(summary.join_s)),
        ("idle to decision", seconds(summary.decide_in_s)),
        ("decision to off", seconds(summary.leave_s)),
        (
            "latency p50, p95",
            f"{marks.figure(times.p50_ms, ' ms')}, {marks.figure(times.p95_ms, ' ms')}",
        ),
        ("the whole run", seconds(summary.seconds)),
    ]
    result_console().print(make_table(("demo", ">"), rows))
