"""What a recording tells: who was in which phase when, what was decided, what it came to. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labcore.clock import parse_rfc3339
from labcore.codec import decode
from labcore.errors import UsageProblem
from labcore.wire.event import Event, EventKind
from labcore.wire.scaler import Action, Decision
from labctl.load.types import Latency
from labctl.report.recording import Recording


@dataclass(frozen=True)
class Span:
    """A node in one phase, in seconds from the start of the recording."""

    node: str
    phase: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Told:
    """A decision to change the size, with the number by which the report calls it."""

    number: int
    at_s: float
    decision: Decision


@dataclass(frozen=True)
class Summary:
    """The figures of a run. Seconds are None where the moment did not come."""

    succeeded: bool  # at least one out, at least one in, nothing lost, no problem
    requests_sent: int
    requests_failed: int
    requests_rejected: int
    scale_out: int  # nodes that joined the load balancer after the load began
    scale_in: int  # nodes that were drained and powered off
    seconds: float
    up_s: float | None  # from the command to the lab being up
    decide_out_s: float | None  # from the load's start to the first decision outwards
    join_s: float | None  # from that decision to the new node in the load balancer
    decide_in_s: float | None  # from the load's end to the first decision inwards
    leave_s: float | None  # from that decision to the node being off
    late_sends: int
    latency: Latency
    problem: str | None


class Times:
    """Turns the recording's times into seconds from its start."""

    def __init__(self, recording: Recording) -> None:
        self._zero = parse_rfc3339(recording.began_at)
        self.end_s = self.at(recording.ended_at)

    def at(self, moment: str) -> float:
        """Seconds from the start."""
        return (parse_rfc3339(moment) - self._zero).total_seconds()


def node_order(name: str) -> tuple[str, int, str]:
    """Sorts agent-2 before agent-10."""
    match = re.search(r"^(.*?)(\d+)$", name)
    return (match[1], int(match[2]), name) if match else (name, 0, name)


def spans(recording: Recording) -> tuple[Span, ...]:
    """Each node's phases, by node and time; `off` is left out.

    The scaler's samples decide. Before the first one there is no scaler, and only the gates tell
    that a node is booting.
    """
    times = Times(recording)
    points: dict[str, list[tuple[float, str]]] = {}
    first_s = times.at(recording.samples[0].at) if recording.samples else times.end_s
    for event in recording.events:
        at_s = times.at(event.at)
        if event.node and event.kind in (EventKind.GATE, EventKind.SERVER) and at_s < first_s:
            points.setdefault(event.node, []).append((max(0.0, at_s), "booting"))
    members = {p.node for sample in recording.samples for p in sample.nodes}
    for sample in recording.samples:
        seen = {p.node: p.phase for p in sample.nodes}
        for node in members:
            phase = seen.get(node, "off")
            points.setdefault(node, []).append((times.at(sample.at), phase))
    if members:
        points = {node: points[node] for node in members}
    return tuple(
        span
        for node in sorted(points, key=node_order)
        for span in _runs(node, points[node], times.end_s)
        if span.phase != "off" and span.end_s > span.begin_s
    )


def _runs(node: str, points: list[tuple[float, str]], end_s: float) -> Iterator[Span]:
    begin_s, phase = points[0]
    for at_s, seen in points[1:]:
        if seen != phase:
            yield Span(node, phase, begin_s, at_s)
            begin_s, phase = at_s, seen
    yield Span(node, phase, begin_s, end_s)


def decisions(recording: Recording) -> tuple[Told, ...]:
    """The decisions to change the size, oldest first, numbered from 1."""
    times = Times(recording)
    made = [d for d in _all_decisions(recording.events) if d.action is not Action.HOLD]
    made.sort(key=lambda d: d.at)
    return tuple(Told(n, times.at(d.at), d) for n, d in enumerate(made, 1))


def _all_decisions(events: Iterable[Event]) -> Iterator[Decision]:
    for event in events:
        if event.kind is EventKind.DECISION:
            try:
                yield decode(Decision, event.data)
            except UsageProblem:
                continue  # of another version; its event is still in the list


def summarise(recording: Recording) -> Summary:
    """The figures that the table, the JSON file and the exit code go by."""
    times = Times(recording)
    load = recording.load
    starts = _mark(recording, "load-starts", times)
    stops = _mark(recording, "load-stops", times)
    joins, removed = _changes(recording, times)
    joined = [at_s for at_s in joins if starts is not None and at_s >= starts]
    out_s = _first(recording, Action.OUT, starts)
    in_s = _first(recording, Action.IN, stops)
    failed = load.failed if load else 0
    good = bool(joined and removed) and load is not None and load.sent > 0 and failed == 0
    return Summary(
        succeeded=good and recording.problem is None,
        requests_sent=load.sent if load else 0,
        requests_failed=failed,
        requests_rejected=load.rejected if load else 0,
        scale_out=len(joined),
        scale_in=len(removed),
        seconds=round(times.end_s, 3),
        up_s=_mark(recording, "up", times),
        decide_out_s=_between(starts, out_s),
        join_s=_between(out_s, _next(joined, out_s)),
        decide_in_s=_between(stops, in_s),
        leave_s=_between(in_s, _next(removed, in_s)),
        late_sends=load.late if load else 0,
        latency=load.latency if load else Latency(),
        problem=recording.problem,
    )


def _changes(recording: Recording, times: Times) -> tuple[list[float], list[float]]:
    """When a node joined, and when one was removed. A removal called off is neither."""
    members: set[str | None] = set()
    joined, removed = [], []
    for event in recording.events:
        change = event.data.get("change") if event.kind is EventKind.MEMBERSHIP else None
        if change == "joined" and event.node not in members:
            members.add(event.node)
            joined.append(times.at(event.at))
        elif change in ("removed", "lost", "left"):
            members.discard(event.node)
            if change == "removed":
                removed.append(times.at(event.at))
    return joined, removed


def _mark(recording: Recording, name: str, times: Times) -> float | None:
    return next((times.at(mark.at) for mark in recording.marks if mark.name == name), None)


def _first(recording: Recording, action: Action, after_s: float | None) -> float | None:
    made = (t.at_s for t in decisions(recording) if t.decision.action is action)
    return _next(made, after_s)


def _next(moments: Iterable[float], after_s: float | None) -> float | None:
    if after_s is None:
        return None
    return next((at_s for at_s in moments if at_s >= after_s), None)


def _between(begin_s: float | None, end_s: float | None) -> float | None:
    return None if begin_s is None or end_s is None else round(end_s - begin_s, 3)
