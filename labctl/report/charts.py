"""The four charts of a report: agents, CPU, requests, latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup

from labctl.load.types import LoadReport, Second
from labctl.report.frame import (
    BLUE,
    BOTTOM,
    GREEN,
    INK,
    LEFT,
    ORANGE,
    PALE,
    PALE_BLUE,
    PURPLE,
    RED,
    RIGHT,
    SKY,
    WIDTH,
    Chart,
    Frame,
    Key,
    Scene,
    drawing,
    make_scene,
    told_text,
)
from labctl.report.recording import Recording
from labctl.report.story import Span, Times, Told, node_order, spans
from labctl.report.svg import Point, area, line, tag

ROW = 46.0  # height of one agent's bar
NODE_STYLES = ((BLUE, None), (ORANGE, "10 5"), (PURPLE, "2 6"), (SKY, "14 5 3 5"), (GREEN, "6 4"))
PHASES = {  # fill and ink
    "booting": ("url(#booting)", INK),
    "serving": (GREEN, "#ffffff"),
    "draining": ("url(#draining)", INK),
    "standby": (SKY, INK),
    "paused": (PALE, "#ffffff"),
    "unhealthy": (RED, "#ffffff"),
}


def charts(recording: Recording) -> tuple[Chart, ...]:
    """All charts for which there is something to show."""
    scene = make_scene(recording)
    drawn = [_agents(recording, scene)]
    if recording.samples:
        drawn.append(_cpu(recording, scene))
    if recording.load is not None and recording.load.series:
        begin_s = Times(recording).at(recording.load.started_at)
        drawn.append(_requests(recording.load, begin_s, scene))
        drawn.append(_latency(recording.load, begin_s, scene))
    return tuple(drawn)


def _agents(recording: Recording, scene: Scene) -> Chart:
    found = spans(recording)
    nodes = sorted({span.node for span in found}, key=node_order)
    top = 44.0  # room for the numbers of the decisions
    bottom = top + ROW * max(1, len(nodes))
    rows = {node: top + ROW * index for index, node in enumerate(nodes)}
    names = [
        tag("text", node, x=LEFT - 10, y=y + ROW / 2 + 6, text_anchor="end", class_="name")
        for node, y in rows.items()
    ]
    bars = [_bar(span, scene, rows[span.node]) for span in found]
    numbers = [_number(told, scene) for told in scene.told]
    parts = [_patterns(), *names, *scene.grid(top - 6, bottom), *bars, *numbers]
    shown = {span.phase for span in found}
    keys = [Key(phase, fill, area=True) for phase, (fill, _) in PHASES.items() if phase in shown]
    return Chart("Agents", drawing(parts, bottom + BOTTOM), tuple(keys))


def _bar(span: Span, scene: Scene, y: float) -> Markup:
    fill, ink = PHASES.get(span.phase, (PALE, INK))
    begin, end = scene.x.px(span.begin_s), scene.x.px(span.end_s)
    words = f"{span.node} {span.phase}, {span.begin_s:.1f} s to {span.end_s:.1f} s"
    size = {"width": max(3.0, end - begin), "height": ROW - 10}
    shape = tag("rect", x=begin, y=y + 5, fill=fill, class_="bar", **size)
    text = f"{span.phase} {span.end_s - span.begin_s:.0f} s"
    if end - begin < 10.5 * len(text):
        return tag("g", tag("title", words), shape)
    label = tag("text", text, x=begin + 9, y=y + ROW / 2 + 6, fill=ink, class_="inside")
    return tag("g", tag("title", words), shape, label)


def _number(told: Told, scene: Scene) -> Markup:
    at = scene.x.px(told.at_s)
    disc = tag("circle", cx=at, cy=19.0, r=16.0, fill=INK)
    text = tag("text", str(told.number), x=at, y=25.5, text_anchor="middle", class_="number")
    return tag("g", tag("title", told_text(told)), disc, text)


def _patterns() -> Markup:
    """Stripes, so that booting and draining differ from serving in grey print too."""
    made = []
    for name, colour, lean in (("booting", ORANGE, 45), ("draining", RED, -45)):
        ground = tag("rect", width=12, height=12, fill=colour, fill_opacity=0.25)
        stripe = tag("rect", width=4, height=12, fill=colour, fill_opacity=0.55)
        made.append(
            tag(
                "pattern",
                ground,
                stripe,
                id=name,
                width=12,
                height=12,
                patternUnits="userSpaceOnUse",
                patternTransform=f"rotate({lean})",
            )
        )
    return tag("defs", *made)


def _cpu(recording: Recording, scene: Scene) -> Chart:
    per_node, average = _cpu_points(recording)
    known = [v for points in per_node.values() for _, v in points if v is not None]
    frame = Frame(scene, max([100.0, *known]), " %")
    keys = [Key("average of those in rotation", INK, None, 6.0)]
    lines = []
    for index, name in enumerate(sorted(per_node, key=node_order)):
        colour, dash = NODE_STYLES[index % len(NODE_STYLES)]
        keys.append(Key(name, colour, dash))
        lines.append(_line(frame, per_node[name], keys[-1]))
    limits = [
        *_limit(frame, recording.scaling.out_above.get("cpu_percent"), above=True),
        *_limit(frame, recording.scaling.in_below.get("cpu_percent"), above=False),
    ]
    content = [*limits, *lines, _line(frame, average, keys[0])]
    return Chart("CPU of the agents", frame.drawing(content), tuple(keys))


def _cpu_points(recording: Recording) -> tuple[dict[str, list[Point]], list[Point]]:
    """CPU per node, and the mean of those in rotation, by time."""
    times = Times(recording)
    names = {point.node for sample in recording.samples for point in sample.nodes}
    per_node: dict[str, list[Point]] = {name: [] for name in names}
    average: list[Point] = []
    for sample in recording.samples:
        at_s = times.at(sample.at)
        seen = {point.node: point.cpu_percent for point in sample.nodes}
        for name in names:
            per_node[name].append((at_s, seen.get(name)))
        busy = [p.cpu_percent for p in sample.nodes if p.in_rotation and p.cpu_percent is not None]
        average.append((at_s, sum(busy) / len(busy) if busy else None))
    return per_node, average


def _limit(frame: Frame, value: float | None, *, above: bool) -> Iterator[Markup]:
    """The band in which a threshold is crossed."""
    if value is None:
        return
    at, edge = frame.y.px(value), frame.y.px(frame.y.high if above else 0.0)
    colour, words = (RED, "out above") if above else (BLUE, "in below")
    band = {"x": LEFT, "width": WIDTH - RIGHT - LEFT, "fill": colour, "fill_opacity": 0.08}
    yield tag("rect", y=min(at, edge), height=abs(at - edge), **band)
    yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, stroke=colour, class_="limit")
    place = {"x": WIDTH - RIGHT - 8, "y": at - 7 if above else at + 20}
    yield tag("text", f"{words} {value:g} %", text_anchor="end", fill=colour, **place)


def _requests(load: LoadReport, begin_s: float, scene: Scene) -> Chart:
    rows = _whole_seconds(load)
    frame = Frame(scene, max([1.0, *(1.05 * row.sent for row in load.series)]), "")
    keys = (
        Key("sent", PALE_BLUE, area=True),
        Key("answered well", BLUE),
        Key("failed", RED, area=True),
    )
    sent = _points(rows, begin_s, lambda row: row.sent)
    lines = [
        area(sent, frame.scene.x, frame.y, fill=PALE_BLUE),
        _line(frame, _points(rows, begin_s, lambda row: row.ok), keys[1]),
    ]
    failed = [_failed(frame, row, begin_s) for row in load.series if row.failed]
    return Chart("Requests per second", frame.drawing([*lines, *failed]), keys)


def _failed(frame: Frame, row: Second, begin_s: float) -> Markup:
    """A bar, never too small to be seen: one lost request is what this page is about."""
    x = frame.scene.x
    left, right = x.px(begin_s + row.at_s), x.px(begin_s + row.at_s + 1)
    top = min(frame.y.px(row.failed), frame.bottom - 8)
    size = {"width": max(4.0, right - left), "height": frame.bottom - top}
    words = tag("title", f"{row.failed} of {row.sent} requests failed")
    return tag("g", words, tag("rect", x=left, y=top, fill=RED, **size))


def _latency(load: LoadReport, begin_s: float, scene: Scene) -> Chart:
    rows = _whole_seconds(load)
    frame = Frame(scene, max([1.0, *(1.05 * (row.p95_ms or 0.0) for row in rows)]), " ms")
    keys = (Key("95 % were faster (p95)", PURPLE), Key("half were faster (p50)", BLUE, "10 5"))
    lines = [
        _line(frame, _points(rows, begin_s, lambda row: row.p95_ms), keys[0]),
        _line(frame, _points(rows, begin_s, lambda row: row.p50_ms), keys[1]),
    ]
    return Chart("Latency", frame.drawing(lines), keys)


def _whole_seconds(load: LoadReport) -> Sequence[Second]:
    """Without the last second where that was cut short: its rate would look like a drop."""
    return load.series[:-1] if load.stopped and len(load.series) > 1 else load.series


def _points(
    rows: Sequence[Second], begin_s: float, value: Callable[[Second], float | None]
) -> list[Point]:
    return [(begin_s + row.at_s + 0.5, value(row)) for row in rows]


def _line(frame: Frame, points: Sequence[Point], key: Key) -> Markup:
    style = {"stroke": key.colour, "stroke_dasharray": key.dash, "stroke_width": key.width}
    return line(points, frame.scene.x, frame.y, **style)
