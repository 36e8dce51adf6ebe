"""A run that never was, with known figures: two agents, a third joins, it leaves again."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from labcore.clock import rfc3339
from labcore.codec import encode
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Scaling
from labcore.wire.scaler import Action, Decision
from labctl.load.types import Latency, LoadReport, Second
from labctl.report.recording import Mark, NodePoint, Recording, Sample

BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
UP, LOAD, OUT, JOINED, STOPPED, IN, OFF, END = 6.0, 8.0, 21.0, 25.5, 60.0, 74.0, 77.0, 82.0


def at(seconds: float) -> str:
    return rfc3339(BEGAN + timedelta(seconds=seconds))


def event(
    seconds: float, kind: EventKind, message: str, node: str | None = None, **data: object
) -> Event:
    return Event(int(seconds * 10) + 1, at(seconds), "demo", kind, message, node, data)


def decided(seconds: float, action: Action, current: int, count: int, why: str) -> Event:
    made = Decision(int(seconds), at(seconds), "agent", "threshold", action, current, count, (why,))
    return event(seconds, EventKind.DECISION, why, **encode(made))


def cpu(seconds: float, agents: int) -> float:
    busy = LOAD + 2 < seconds < STOPPED + 4
    wave = 4 * math.sin(seconds * 1.7) + 3 * math.sin(seconds * 0.6)
    return max(1.0, min(100.0, (176.0 / agents if busy else 3.0) + wave))


def sample(seconds: float) -> Sample:
    third = "booting" if OUT < seconds < JOINED else "off"
    if JOINED <= seconds < IN:
        third = "serving"
    elif IN <= seconds < OFF:
        third = "draining"
    serving = 3 if third == "serving" else 2
    nodes = [
        NodePoint(f"agent-{n}", "serving", True, cpu(seconds + 2.3 * n, serving)) for n in (1, 2)
    ]
    shown = cpu(seconds + 7, serving) if third in ("serving", "draining") else None
    nodes.append(NodePoint("agent-3", third, third == "serving", shown))
    return Sample(at(seconds), 3 if OUT <= seconds < IN else 2, serving, tuple(nodes))


def load(failed: int = 0) -> LoadReport:
    rows = []
    for second in range(52):
        rate = min(40, 4 * (second + 1))
        lost = failed if second == 30 else 0
        slow = 160.0 if 10 < second < 18 else 26.0
        rows.append(
            Second(
                second, rate, rate - lost, 0, lost, slow / 2 + second % 3, slow + 9 * (second % 5)
            )
        )
    sent = sum(row.sent for row in rows)
    return LoadReport(
        url="http://127.0.0.1:8080/work?ms=10",
        method="POST",
        schedule="0:40:10s,40:300s",
        started_at=at(LOAD),
        seconds=52.1,
        sent=sent,
        answered=sent - failed,
        ok=sent - failed,
        rejected=0,
        failed=failed,
        late=3,
        stopped=True,
        latency=Latency(14.2, 120.5, 180.1, 240.9),
        failures={"status-502": failed} if failed else {},
        statuses={"200": sent - failed},
        backends={"agent-1": 800, "agent-2": 790, "agent-3": sent - 1590},
        series=tuple(rows),
    )


def recording(failed: int = 0, problem: str | None = None) -> Recording:
    gates = [
        event(1.0 + n, EventKind.GATE, f"agent-{n} is created", f"agent-{n}", gate="created")
        for n in (1, 2)
    ]
    changes = [
        event(4.8, EventKind.MEMBERSHIP, "agent-1 joined", "agent-1", change="joined"),
        event(5.0, EventKind.MEMBERSHIP, "agent-2 joined", "agent-2", change="joined"),
        decided(OUT, Action.OUT, 2, 3, "average CPU 86.3 % is above 70 %"),
        event(JOINED, EventKind.MEMBERSHIP, "agent-3 joined", "agent-3", change="joined"),
        decided(40.0, Action.HOLD, 3, 3, "average CPU 58 % is between 30 % and 70 %"),
        decided(IN, Action.IN, 3, 2, "average CPU 4.1 % is below 30 % and memory 12 % below 40 %"),
        event(IN, EventKind.MEMBERSHIP, "agent-3 drains", "agent-3", change="drain"),
        event(OFF, EventKind.MEMBERSHIP, "agent-3 is removed", "agent-3", change="removed"),
    ]
    return Recording(
        title="labctl demo",
        lab="demo",
        driver="local",
        group="agent",
        began_at=at(0),
        ended_at=at(END),
        scaling=Scaling(interval_s=2, cooldown_out_s=5, cooldown_in_s=8),
        settings=("scaling.interval_s=2", "scaling.cooldown_out_s=5", "groups.agent.cpus=0.25"),
        machine={"system": "Linux 6.1", "CPUs": "2", "memory": "7.8 GiB", "Python": "3.11.7"},
        events=(*gates, *changes),
        samples=tuple(sample(5.0 + 0.5 * n) for n in range(154)),
        marks=(
            Mark(at(0), "begins", "labctl demo begins"),
            Mark(at(UP), "up", "the lab is up with 2 agents"),
            Mark(at(LOAD), "load-starts", "load rises to 40 requests per second"),
            Mark(at(JOINED), "joined", "agent-3 serves"),
            Mark(at(STOPPED), "load-stops", "the load stops"),
            Mark(at(OFF), "left", "agent-3 is off"),
        ),
        load=load(failed),
        problem=problem,
    )
