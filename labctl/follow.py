"""Follows a run (up, down, destroy) by its events until it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from labcore.errors import Interrupted, LabError, from_wire
from labcore.manager_client import ManagerClient
from labcore.wire.event import Event, EventKind

POLL_S = 10.0
ENDS = ("up", "down", "destroyed", "failed", "cancelled")


@dataclass
class NodeProgress:
    """How far one node is: the seconds at which it passed each gate, what is done to it now."""

    gates: dict[str, float] = field(default_factory=dict)
    doing: str = ""
    problem: str = ""


@dataclass
class Run:
    """What the events of one run say so far."""

    lab: str
    number: int  # the seq of the event that began it
    nodes: dict[str, NodeProgress] = field(default_factory=dict)
    ports: list[str] = field(default_factory=list)  # sentences about replaced ports
    problems: list[Event] = field(default_factory=list)
    ended: Event | None = None
    seen: int = 0  # the seq of the last event taken in

    @property
    def state(self) -> str:
        """One of ENDS; empty while it goes on."""
        return str(self.ended.data["state"]) if self.ended else ""

    def add(self, event: Event) -> None:
        """Take in the next event of the lab."""
        self.seen = event.seq
        if event.node is not None and event.kind in (EventKind.GATE, EventKind.SERVER):
            node = self.nodes.setdefault(event.node, NodeProgress())
            if event.kind is EventKind.GATE:
                # `serving` is told by the scaler too, which counts from when it met the node.
                gate = str(event.data.get("gate"))
                node.gates[gate] = max(_seconds(event), node.gates.get(gate, 0.0))
            else:
                going_on = event.data.get("outcome") == "begun"
                node.doing = str(event.data.get("operation", "")) if going_on else ""
        elif event.kind is EventKind.PORT:
            self.ports.append(event.message)
        elif event.kind is EventKind.PROBLEM:
            self.problems.append(event)
            if event.node is not None:
                self.nodes.setdefault(event.node, NodeProgress()).problem = event.message
        elif event.kind is EventKind.LAB and event.data.get("run") == self.number:
            self.ended = event if event.data.get("state") in ENDS else None

    def steps(self) -> dict[str, dict[str, float]]:
        """For each node, by name: the seconds from each gate to the next, in order."""
        found: dict[str, dict[str, float]] = {}
        for name in sorted(self.nodes):
            before = 0.0
            for gate, at in sorted(self.nodes[name].gates.items(), key=lambda item: item[1]):
                found.setdefault(name, {})[gate] = round(max(0.0, at - before), 3)
                before = at
        return found

    def check(self) -> None:
        """Raise what the run failed with, if it did."""
        if self.state == "cancelled":
            raise Interrupted(f"lab {self.lab!r}: stopped", going_on(self.lab))
        if self.state == "failed" and self.ended is not None:
            raise _failure(self, self.ended)


def follow(manager: ManagerClient, run: Run, on_event: Callable[[Run, Event], None]) -> None:
    """Hand every event that comes to `run` and to `on_event` until the run has ended.

    Raises Unreachable if the server-manager dies. What the run ended with is for the caller to
    ask. May be called again after an interruption: it goes on behind the last event.
    """
    while run.ended is None:
        for event in manager.events(run.lab, after=max(run.number, run.seen), wait_s=POLL_S):
            run.add(event)
            on_event(run, event)


def going_on(lab: str) -> str:
    """What to do with a lab that is half made."""
    return f"labctl up --lab {lab} goes on; labctl destroy --lab {lab} removes what there is"


def _failure(run: Run, end: Event) -> LabError:
    data = {**(dict(run.problems[-1].data) if run.problems else {}), **end.data}
    wire = {
        "code": data.get("code", "failed"),
        "message": f"lab {run.lab!r}: {end.message}",
        "hint": data.get("hint") or going_on(run.lab),
        "details": _details(run, end),
    }
    return from_wire({"error": wire}, end.message)


def _details(run: Run, end: Event) -> list[str]:
    """What each node failed with, and the last that was heard of it."""
    lines: list[str] = []
    for event in run.problems or [end]:
        if event.message not in end.message:
            lines.append(f"{event.node}: {event.message}" if event.node else event.message)
        heard = event.data.get("details")
        lines.extend(str(line) for line in (heard if isinstance(heard, list) else []))
    return lines


def _seconds(event: Event) -> float:
    seconds = event.data.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0
