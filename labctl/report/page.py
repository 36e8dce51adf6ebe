"""Makes the page: figures and drawings into one HTML text without a single outside link."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2

from labcore.clock import parse_rfc3339
from labctl.report.charts import charts
from labctl.report.frame import Chart
from labctl.report.recording import Recording
from labctl.report.story import Summary, Times, Told, decisions, summarise
from labctl.report.svg import clock_text

_TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Page:
    """What the template shows."""

    recording: Recording
    summary: Summary
    date: str
    verdict: str
    charts: tuple[Chart, ...]
    marks: tuple[tuple[str, str], ...]  # 1:05, words
    told: tuple[Told, ...]


def render(recording: Recording) -> str:
    """The whole page. Pure: the same recording makes the same text."""
    times = Times(recording)
    summary = summarise(recording)
    page = Page(
        recording=recording,
        summary=summary,
        date=parse_rfc3339(recording.began_at).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=verdict(summary),
        charts=charts(recording),
        marks=tuple((clock_text(times.at(mark.at)), mark.text) for mark in recording.marks),
        told=decisions(recording),
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["clock"] = clock_text
    environment.filters["seconds"] = lambda value: "-" if value is None else f"{value:.1f} s"
    environment.filters["ms"] = lambda value: "-" if value is None else f"{value:.0f} ms"
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(page=page)


def verdict(summary: Summary) -> str:
    """The run in one sentence."""
    lost = f"{summary.requests_failed:,} of {summary.requests_sent:,} requests lost"
    joined = _counted(summary.scale_out, "joined")
    left = _counted(summary.scale_in, "left")
    return f"{joined}, {left}, {lost}.".capitalize()


def _counted(count: int, verb: str) -> str:
    return f"{count or 'no'} agent{'s' if count > 1 else ''} {verb}"
