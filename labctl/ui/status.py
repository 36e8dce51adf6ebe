"""One lab on the screen: the table, the live view, and a line for those who only log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from labctl.ui import marks
from labctl.ui.console import looked_at, result_console, unicode_ok
from labctl.ui.plain import result
from labctl.ui.tables import make_table

View = Mapping[str, Any]
_COLOURS = {"up": "green", "running": "green", "healthy": "green", "yes": "green"}
_COLOURS |= {"degraded": "red", "failed": "red", "error": "red", "unhealthy": "red", "lost": "red"}
_COLOURS |= {"converging": "yellow", "starting": "yellow", "stopping": "yellow", "paused": "yellow"}


def show(view: View) -> None:
    """The lab as a table."""
    console = result_console()
    console.print(screen(view, console))


def show_labs(labs: Sequence[Mapping[str, Any]]) -> None:
    """All labs, one line each."""
    rows = [(lab["lab"], lab["driver"], lab["state"], lab["url"] or "-") for lab in labs]
    result_console().print(make_table(("LAB", "DRIVER", "STATE", "LOAD BALANCER"), rows))


def watch(views: Iterable[View]) -> None:
    """Draw each view over the one before; a line each where nobody looks."""
    if not looked_at("stdout"):
        for view in views:
            result(line(view))
        return
    console = result_console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for view in views:
            live.update(screen(view, console, history=True), refresh=True)


def screen(view: View, console: Console, *, history: bool = False) -> RenderableType:
    """What a person sees of a lab; with `history`, each node's CPU as a sparkline."""
    parts: list[RenderableType] = [_headline(view)]
    regional = len({group["region"] for group in view["groups"]}) > 1
    parts += [_group(group, regional=regional) for group in view["groups"]]
    parts += [Text(f"! {problem}", style="red") for problem in view["problems"]]
    parts += [Text(), _nodes(view, fancy=unicode_ok(console), history=history)]
    return Group(*parts)


def line(view: View) -> str:
    """The lab in one line."""
    groups = " ".join(
        f"{g['group']}={marks.figure(g['serving'])}/{g['count']}({g['mode']})"
        for g in view["groups"]
    )
    nodes = " ".join(
        f"{n['name']}:{n['phase'] or n['state']}:{marks.figure(n['cpu_percent'], '%')}"
        for n in view["nodes"]
        if n["role"] != "control"
    )
    return f"{view['lab']} {view['state']} {groups} {nodes}".rstrip()


def _headline(view: View) -> Text:
    text = Text(view["lab"], style="bold")
    text.append(f"  {view['state']}", style=_COLOURS.get(view["state"], ""))
    text.append(f"  {view['driver']}  {view['load_balancer']['url'] or ''}", style="not bold")
    return text


def _group(group: Mapping[str, Any], *, regional: bool) -> RenderableType:
    serving = marks.figure(group["serving"])
    where = f" in {group['region']}" if regional else ""
    text = f"{group['group']}{where}: {group['mode']}, {serving} of {group['count']} serve"
    text += f" (min {group['min']}, max {group['max']})"
    if group["standby"] or group["standby_ready"]:
        text += f", standby {group['standby_ready']} of {group['standby']}"
    if group["cooldown_remaining_s"]:
        text += f", cooldown {group['cooldown_remaining_s']:.0f} s"
    below = []
    if group["removal"]:
        below.append(f"removing {group['removal']['node']}: {group['removal']['step']}")
    if decision := group["last_decision"]:
        said = "; ".join([*decision["reasons"], *decision["vetoes"]])
        below.append(f"{decision['action']} at {decision['at'][11:19]}: {said}")
    return Group(Text(text), *(Padding(Text(line), (0, 0, 0, 2)) for line in below))


def _nodes(view: View, *, fancy: bool, history: bool) -> Table:
    columns = ["NODE", "STATE", "HEALTH", "ROUTED", "CPU%>", "MEM%>", "BUSY>"]
    rows = [_row(node) for node in view["nodes"]]
    members = any(node.get("member") for node in view["nodes"])
    if members:
        columns.append("MEMBER")
        for row, node in zip(rows, view["nodes"], strict=True):
            row.append(escape(node["member"] or ""))
    if history:
        columns.append("CPU")
        for row, node in zip(rows, view["nodes"], strict=True):
            row.append(marks.sparkline(node["cpu_history"], 20, fancy=fancy))
    else:
        columns.append("APP")
        for row, node in zip(rows, view["nodes"], strict=True):
            url = node["endpoints"].get("app") or ""
            row.append(url.removeprefix("http://") if members else url)  # 80 columns are few
    return make_table(columns, rows)


def _row(node: Mapping[str, Any]) -> list[str]:
    state = node["state"]
    if node["phase"] in ("booting", "draining", "standby"):
        state = node["phase"]
    routed = "yes" if node["in_rotation"] else "-"
    return [
        escape(node["name"]),
        _coloured(state),
        _coloured(node["health"]),
        _coloured(routed),
        marks.figure(node["cpu_percent"]),
        marks.figure(node["memory_percent"]),
        marks.figure(node["in_flight"]),
    ]


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else escape(word)
