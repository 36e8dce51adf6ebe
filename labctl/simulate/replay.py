"""What another policy would have said at each decision that a scaler recorded.

Only the words change, not the past: at every decision the policy is shown what was recorded then
(samples, wished count, changes made), since nobody knows the metrics of a group that never was.
A scaler tells a hold that is like the one before only now and then; in between, what was told last
is taken to have stayed.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from control_node.policies import History, Observation, Verdict, decide, remember
from labcore import codec
from labcore.clock import parse_rfc3339
from labcore.errors import NotFound, UsageProblem
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Scaling
from labcore.wire.scaler import Action, Decision

# A gap longer than this is no gap between equal holds: nobody watched.
LONGEST_S = 120.0


@dataclass(frozen=True)
class Answer:
    """One recorded decision, and what the policy says instead."""

    at: str
    group: str
    policy: str
    recorded_policy: str
    recorded_action: Action
    recorded_count: int
    action: Action
    count: int
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...]


@dataclass
class _Group:
    """What is known of one group on the way through the record."""

    history: History = field(default_factory=History)
    last: Observation | None = None  # with the count that was wished for after it
    at: float = 0.0


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """The decisions among the events in a file: a JSON list, or one event a line.

    Raises NotFound, and UsageProblem with what is wrong, or with no decision at all.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"cannot read {path}: {error}") from error
    try:
        lines = [line for line in text.splitlines() if line.strip()]
        found = json.loads(text) if text.lstrip().startswith("[") else [*map(json.loads, lines)]
    except json.JSONDecodeError as error:
        hint = "labctl events -o json > events.json"
        raise UsageProblem(f"{path} is not a JSON list of events: {error}", hint) from error
    events = [codec.decode(Event, item, f"{path}[{i}]") for i, item in enumerate(found)]
    decisions = tuple(
        codec.decode(Decision, event.data, f"{path}: event {event.seq}")
        for event in events
        if event.kind is EventKind.DECISION
    )
    if not decisions:
        raise UsageProblem(f"{path} holds {len(events)} events, none of them a decision")
    return decisions


def replay(name: str, scaling: Scaling, decisions: tuple[Decision, ...]) -> tuple[Answer, ...]:
    """The answers of one policy, in the order of the record; each group has its own history."""
    groups: dict[str, _Group] = {}
    return tuple(
        _answer(name, scaling, recorded, groups.setdefault(recorded.group, _Group()))
        for recorded in decisions
    )


def _answer(name: str, scaling: Scaling, recorded: Decision, group: _Group) -> Answer:
    moment = parse_rfc3339(recorded.at)
    now = moment.timestamp()
    _fill(group, scaling, now)
    observation = _observation(recorded, group, moment)
    said = decide(now, group.history, observation, scaling)
    happened = Verdict(
        recorded.action, recorded.count, recorded.reasons, wish=said.wish, demand=said.demand
    )
    group.history = remember(now, group.history, observation, happened, scaling)
    group.last, group.at = dataclasses.replace(observation, desired=recorded.count), now
    return Answer(
        at=recorded.at,
        group=recorded.group,
        policy=name,
        recorded_policy=recorded.policy,
        recorded_action=recorded.action,
        recorded_count=recorded.count,
        action=said.action,
        count=said.count,
        reasons=said.reasons,
        vetoes=said.vetoes,
    )


def _observation(recorded: Decision, group: _Group, moment: datetime) -> Observation:
    desired = recorded.inputs.get("desired")
    before = group.last.desired if group.last is not None else recorded.current
    return Observation(
        samples=recorded.samples,
        desired=before if desired is None else int(desired),
        booting=int(recorded.inputs.get("booting") or 0),
        draining=int(recorded.inputs.get("draining") or 0),
        unknown=int(recorded.inputs.get("unknown") or 0),
        at=moment,
        others=int(recorded.inputs.get("others") or 0),
    )


def _fill(group: _Group, scaling: Scaling, now: float) -> None:
    """Let the policy look at what was told last once an interval, until shortly before `now`."""
    if group.last is None:
        return
    at = group.at + scaling.interval_s
    while at <= now - scaling.interval_s / 2.0 and at - group.at <= LONGEST_S:
        said = decide(at, group.history, group.last, scaling)
        held = Verdict(
            Action.HOLD, group.last.desired, said.reasons, wish=said.wish, demand=said.demand
        )
        group.history = remember(at, group.history, group.last, held, scaling)
        at += scaling.interval_s
