"""Asking the policy: once per interval and group, and a record of every answer."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from control_node.policies.types import History, Observation, Verdict
from control_node.scaler.roster import Roster
from control_node.scaler.scene import Scene
from control_node.scaler.state import GroupMemory, State
from control_node.scaler.types import Policy, Probe, Publish, SetCount, Step
from labcore.codec import encode
from labcore.wire.event import EventKind
from labcore.wire.lab import Scaling
from labcore.wire.scaler import Action, Decision, NodeSample

STALE_INTERVALS = 2
# Equal holds are told once a minute; the record that a replay needs stays periodic.
REPEAT_HOLD_S = 60.0
_FIGURES = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation leaves: a new state, the decision, and what to do."""

    state: State
    decision: Decision
    steps: tuple[Step, ...]


class Evaluator:
    """Evaluates groups when they are due. Remembers which holds were told, and nothing to keep."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._told: dict[str, tuple[str, float]] = {}
        self._if_failed: dict[str, History] = {}

    def evaluate(self, scene: Scene, roster: Roster, state: State) -> Evaluation | None:
        """Evaluate one group if it is due; None if it is not."""
        scaling = roster.group.scaling
        memory = state.of_group(roster.group.name)
        if scaling is None or not _is_due(scene, roster, scaling, memory):
            return None
        observation = observe(scene, roster, scaling)
        verdict = self._policy.decide(scene.now, memory.history, observation, scaling)
        if roster.group.mode == "manual":
            verdict = _manual(verdict, observation)
        verdict = _stopped(verdict, observation, memory.breaker.sentence(scene.now))
        history = self._policy.remember(scene.now, memory.history, observation, verdict, scaling)
        decision = _decision(scene, roster, observation, verdict, state.decision_seq + 1)
        steps: list[Step] = list(self._tell(scene, decision))
        if verdict.action is not Action.HOLD:
            self._if_failed[roster.group.name] = self._policy.remember(
                scene.now, memory.history, observation, _hold(verdict, observation), scaling
            )
            # Limited once more where it is acted on, whatever a policy says (nomad GH-1282).
            count = max(roster.minimum, min(verdict.count, roster.maximum))
            steps.append(
                scene.ledger.begin(SetCount(roster.group.name, count, scene.view.lab_asked))
            )
        after = dataclasses.replace(state, decision_seq=decision.seq).with_group(
            roster.group.name,
            dataclasses.replace(
                memory, history=history, evaluated=scene.now, last_decision=decision
            ),
        )
        return Evaluation(after, decision, tuple(steps))

    def _tell(self, scene: Scene, decision: Decision) -> list[Publish]:
        kind = _FIGURES.sub("#", repr((decision.action, decision.reasons, decision.vetoes)))
        told, when = self._told.get(decision.group, ("", 0.0))
        held = decision.action is Action.HOLD
        if held and told == kind and scene.now - when < REPEAT_HOLD_S:
            return []
        self._told[decision.group] = (kind, scene.now)
        message = f"{decision.group}: {decision.action.value}: {'; '.join(decision.reasons)}"
        if decision.vetoes:
            message += f", but {'; '.join(decision.vetoes)}"
        return [scene.publish(EventKind.DECISION, message, None, encode(decision))]

    def undo(self, state: State, group: str) -> State:
        """Forget the cooldown of a change that could not be written: nothing happened."""
        history = self._if_failed.pop(group, None)
        memory = state.groups.get(group)
        if history is None or memory is None:
            return state
        return state.with_group(group, dataclasses.replace(memory, history=history))


def _is_due(scene: Scene, roster: Roster, scaling: Scaling, memory: GroupMemory) -> bool:
    if not scene.may_change or scene.ledger.count(roster.group.name) is not None:
        return False
    if memory.evaluated is not None and scene.now - memory.evaluated < scaling.interval_s:
        return False
    # After a start nobody has been asked yet; that is not the same as silence.
    asked = roster.serving & roster.panel
    return bool(asked) and all(_was_asked(scene, name) for name in asked)


def _was_asked(scene: Scene, node: str) -> bool:
    probe = scene.probe(node)
    return probe is not None and (probe.metrics is not None or bool(probe.metrics_problem))


def observe(scene: Scene, roster: Roster, scaling: Scaling) -> Observation:
    """What the policy is shown of a group."""
    names = [s.name for s in roster.servers if s.name in _loaded(scene, roster)]
    serving = [name for name in names if name != roster.leaving]
    active = [s for s in roster.active if s.name not in serving and s.state.value != "unknown"]
    oldest = scene.now - STALE_INTERVALS * scaling.interval_s
    panel = roster.panel
    asked = [name for name in serving if name in panel]
    return Observation(
        samples=tuple(sample(name, scene.probe(name), oldest) for name in asked),
        desired=roster.wished,
        booting=len(active) + len(roster.coming),
        draining=int(roster.leaving is not None),
        unknown=roster.unknown,
        at=scene.view.at,
        others=len(serving) - len(asked),
    )


def _loaded(scene: Scene, roster: Roster) -> frozenset[str]:
    return frozenset(b.node for b in scene.loaded.get(roster.group.name, ()))


def sample(node: str, probe: Probe | None, oldest: float) -> NodeSample:
    """One node's figures; None where its `seq` has not changed since `oldest` (monotonic)."""
    if probe is None or probe.metrics is None or (probe.changed_at or oldest) <= oldest:
        return NodeSample(node, None, None, None)
    metrics = probe.metrics
    return NodeSample(node, metrics.cpu, metrics.memory.percent, metrics.in_flight)


def _age_s(scene: Scene, observation: Observation) -> float | None:
    """How long ago the oldest of the samples was asked for; None without any."""
    probes = [scene.probe(s.node) for s in observation.samples if s.cpu_percent is not None]
    asked = [p.metrics_asked_at for p in probes if p and p.metrics_asked_at is not None]
    return round(scene.now - min(asked), 3) if asked else None


def _present(seen: Observation) -> int:
    return len(seen.samples) + seen.others + seen.booting + seen.unknown


def _hold(verdict: Verdict, observation: Observation) -> Verdict:
    return dataclasses.replace(verdict, action=Action.HOLD, count=observation.desired)


def _manual(verdict: Verdict, observation: Observation) -> Verdict:
    if verdict.action is Action.HOLD:
        would = "the policy would hold too"
    else:
        would = f"the policy would go {verdict.action.value} to {verdict.count}"
    held = _hold(verdict, observation)
    return dataclasses.replace(held, reasons=(f"mode is manual; {would}", *verdict.reasons))


def _stopped(verdict: Verdict, observation: Observation, why: str) -> Verdict:
    """Nothing outwards while the breaker is open; `why` is its sentence, or "" if it is not."""
    if not why or verdict.action is not Action.OUT:
        return verdict
    return dataclasses.replace(_hold(verdict, observation), vetoes=(*verdict.vetoes, why))


def _decision(
    scene: Scene, roster: Roster, observation: Observation, verdict: Verdict, seq: int
) -> Decision:
    scaling = roster.group.scaling
    return Decision(
        seq=seq,
        at=scene.at,
        group=roster.group.name,
        policy=scaling.policy if scaling else "",
        action=verdict.action,
        current=_present(observation),
        count=verdict.count,
        reasons=verdict.reasons,
        vetoes=verdict.vetoes,
        samples=observation.samples,
        inputs={
            "desired": float(observation.desired),
            "booting": float(observation.booting),
            "draining": float(observation.draining),
            "unknown": float(observation.unknown),
            "others": float(observation.others),
            "sample_age_s": _age_s(scene, observation),
            **verdict.inputs,
        },
    )
