"""A load run while it goes on, and what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from rich.live import Live
from rich.text import Text

from labctl.load.types import LoadPlan, LoadReport, Progress
from labctl.ui.console import living_picture, result_console
from labctl.ui.plain import note
from labctl.ui.tables import make_table

PLAIN_EVERY_S = 5.0  # where nobody looks, a log wants fewer lines


@contextlib.contextmanager
def load_progress(plan: LoadPlan) -> Iterator[LoadProgress]:
    """Say what is about to be sent, and show how it goes; the last line stays."""
    count, seconds = plan.schedule.count(), plan.schedule.seconds
    note(f"{plan.method} {plan.url}: {count:,} requests in {seconds:g} s")
    with living_picture() as live:
        yield LoadProgress(live)


class LoadProgress:
    """One line on stderr that lives on a terminal; a line every 5 s elsewhere."""

    def __init__(self, live: Live | None) -> None:
        self._live = live
        self._told_s = 0.0

    def show(self, progress: Progress) -> None:
        """Show the newest figures; may be called in any thread."""
        if self._live is not None:
            style = "red" if progress.failed else ""
            self._live.update(Text(progress_line(progress), style=style), refresh=True)
        elif progress.elapsed_s - self._told_s >= PLAIN_EVERY_S:
            self._told_s = progress.elapsed_s
            note(progress_line(progress))


def progress_line(progress: Progress) -> str:
    """The figures in one line."""
    p95 = "-" if progress.p95_ms is None else f"{progress.p95_ms:.0f} ms"
    words = [
        f"{progress.elapsed_s:4.0f}/{progress.seconds:.0f} s",
        f"{progress.rps:6.1f} rps",
        f"{progress.ok:,} ok",
        f"{progress.failed:,} failed",
        f"p95 {p95}",
        f"{progress.in_flight} in flight",
    ]
    if progress.rejected:
        words.append(f"{progress.rejected:,} rejected")
    if progress.late:
        words.append(f"late sends {progress.late:,}")
    return "  ".join(words)


def show_report(report: LoadReport) -> None:
    """The account of a run as a table on stdout; remarks on stderr."""
    rate = report.sent / report.seconds if report.seconds else 0.0
    times = report.latency
    rows = [
        ("sent", f"{report.sent:,}", f"{rate:.1f} per second, {report.seconds:.1f} s"),
        ("ok", f"{report.ok:,}", _listed(report.statuses)),
        ("rejected", f"{report.rejected:,}", "status 4xx" if report.rejected else ""),
        ("failed", f"{report.failed:,}", _listed(report.failures)),
        ("p50", _ms(times.p50_ms), ""),
        ("p95", _ms(times.p95_ms), ""),
        ("p99", _ms(times.p99_ms), ""),
        ("longest", _ms(times.max_ms), ""),
    ]
    rows += [(name, f"{count:,}", "answered") for name, count in report.backends.items()]
    result_console().print(make_table(("requests", ">", ""), rows))
    if report.late:
        note(f"late sends {report.late:,}: this machine was too busy to send on time")
    if times.max_ms is None:
        note("latency was not measured: nothing was answered")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
