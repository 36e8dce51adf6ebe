"""What all charts of a report share: size, colours, one time axis, marks, the value axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from labctl.report.recording import Recording
from labctl.report.story import Times, Told, decisions
from labctl.report.svg import Axis, clock_text, nice_step, tag, ticks, time_step

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1200.0, 100.0, 24.0, 14.0, 40.0
HEIGHT = 220.0

# Okabe and Ito's colours, which stay apart for colour-blind eyes; lines have a dash of their own
# besides, for print in grey.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY, INK, PALE = "#cc79a7", "#56b4e9", "#1a1a1a", "#7a7a7a"
PALE_BLUE = "#c3dcec"


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a line, or with `area` a filled box."""

    text: str
    colour: str  # or a pattern: url(#booting)
    dash: str | None = None
    width: float = 3.0
    area: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing with its heading and legend; `svg` is safe markup."""

    title: str
    svg: Markup
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Scene:
    """The time axis of one report, and what stands on it in every chart."""

    x: Axis
    told: tuple[Told, ...]
    marks: tuple[tuple[float, str], ...]

    def grid(self, top: float, bottom: float) -> list[Markup]:
        """Time ticks, the run's marks and the decisions, as vertical lines."""
        lines = []
        for second in ticks(self.x.high, time_step(self.x.high)):
            at = self.x.px(second)
            lines.append(tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
            lines.append(tag("text", clock_text(second), x=at, y=bottom + 26, text_anchor="middle"))
        for second, words in self.marks:
            at = self.x.px(second)
            shown = tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="mark")
            lines.append(tag("g", tag("title", f"{clock_text(second)} {words}"), shown))
        for told in self.told:
            at = self.x.px(told.at_s)
            shown = tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="decision")
            lines.append(tag("g", tag("title", told_text(told)), shown))
        return lines


def make_scene(recording: Recording) -> Scene:
    """The scene of a recording: from its beginning to its end."""
    times = Times(recording)
    return Scene(
        Axis(0.0, max(times.end_s, 1.0), LEFT, WIDTH - RIGHT),
        decisions(recording),
        tuple((times.at(mark.at), mark.text) for mark in recording.marks),
    )


def told_text(told: Told) -> str:
    """A decision in one line: when, what, why."""
    made = told.decision
    change = f"{made.action.value} from {made.current} to {made.count}"
    return f"{told.number}. {clock_text(told.at_s)} {change}: {'; '.join(made.reasons)}"


class Frame:
    """A chart with a value axis from 0 to a round number not below `high`."""

    def __init__(self, scene: Scene, high: float, unit: str) -> None:
        self.scene = scene
        self._step = nice_step(high, 5)
        rounded = self._step * max(1, -(-high // self._step))
        self.bottom = TOP + HEIGHT
        self.y = Axis(0.0, rounded, self.bottom, TOP)
        self._unit = unit

    def drawing(self, content: Iterable[Markup]) -> Markup:
        """Grid and scale with `content` on them."""
        scale = []
        for value in ticks(self.y.high, self._step):
            at = self.y.px(value)
            scale.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
            words = f"{value:g}{self._unit}"
            scale.append(tag("text", words, x=LEFT - 10, y=at + 6, text_anchor="end"))
        parts = [*scale, *self.scene.grid(TOP, self.bottom), *content]
        return drawing(parts, self.bottom + BOTTOM)


def drawing(parts: Iterable[Markup], height: float) -> Markup:
    """An SVG element that fills the width of the page."""
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img")
