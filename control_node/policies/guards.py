"""What keeps a rule from having its way, whichever rule it is: unheard nodes, suspect metrics.

Each guard returns its vetoes as sentences; none means that it does not object.
"""

from __future__ import annotations

import math

from control_node.policies.situation import (
    CPU,
    LABELS,
    MEMORY,
    Proposal,
    Rule,
    Situation,
    if_busy,
    if_idle,
    nodes,
    percent,
)

# Per cent of CPU from which on a group counts as busy: silence after it needs an explanation.
BUSY = 10.0
NAMES = 3  # so many names in a sentence
SPEAKING = 0.9  # share of the nodes that must be heard before a group shrinks


def outwards(seen: Situation, rule: Rule, proposal: Proposal) -> tuple[int, tuple[str, ...]]:
    """How far out the rule would still go, were all that is not known idle; and why not further.

    The HPA's rule: if the answer changes direction, nothing is done; else it is the answer.
    """
    if not seen.missing and not seen.observation.booting:
        return proposal.count, ()
    careful = if_idle(seen)
    again = rule(careful)
    if again.count > seen.desired:
        return min(again.count, proposal.count), ()
    return seen.desired, (_enough(seen, careful),)


def _enough(seen: Situation, careful: Situation) -> str:
    waiting = []
    if seen.observation.booting:
        waiting.append(f"{_are(seen.observation.booting)} booting")
    if seen.missing:
        waiting.append(f"no word from {_names(seen.missing)}")
    return f"{' and '.join(waiting)}: counted as idle, the average is {_figures(careful)}"


def inwards(seen: Situation, rule: Rule) -> tuple[str, ...]:
    """Why the group must not shrink now, whatever its load seems to be."""
    vetoes = []
    if not seen.observation.samples:
        vetoes.append("no node is serving, so nothing is known of the load")
    if seen.missing:
        vetoes += _silent(seen, rule)
    if seen.observation.draining:
        vetoes.append(f"{_are(seen.observation.draining)} still draining: one removal at a time")
    suspicion = _suspicion(seen)
    if suspicion:
        vetoes.append(suspicion)
    return tuple(vetoes)


def _silent(seen: Situation, rule: Rule) -> list[str]:
    """The HPA's rule again: silent nodes count as busy, and the rule must still want to shrink.

    Where many are silent it is not asked: then it is the metrics that fail, not a node. In a small
    group each one is many.
    """
    silent = f"no word from {_names(seen.missing)}"
    asked = len(seen.observation.samples)
    needed = math.ceil(SPEAKING * asked)
    if asked - len(seen.missing) < needed:
        return [f"{silent}: a group shrinks only when {needed} of {nodes(asked)} speak"]
    careful = if_busy(seen)
    again = rule(careful)
    if again.count < seen.desired and not again.vetoes:
        return []
    return [f"{silent}: counted as busy, the average is {_figures(careful)}"]


def _figures(seen: Situation) -> str:
    return ", ".join(f"{LABELS[m]} {percent(v)}" for m, v in seen.averages.items())


def _suspicion(seen: Situation) -> str | None:
    """Metrics that lie: a busy group that uses no CPU from one look to the next, and yet works.

    Autoscalers have emptied whole systems on a source of metrics that answered 0 during an outage
    (kubernetes/kubernetes#104387). Zero CPU alone proves nothing, an idle laptop shows it too.
    """
    active = seen.history.last_active
    if active is None or active.averages[CPU] < BUSY or seen.averages.get(CPU) != 0.0:
        return None
    busy = f"CPU fell from {percent(active.averages[CPU])} to exactly 0 %"
    memory = seen.averages.get(MEMORY)
    if seen.in_flight:
        return f"suspect metrics: {busy} with {seen.in_flight} requests in flight"
    if memory == 0.0:
        return f"suspect metrics: {busy}, and memory reads 0 %"
    if memory is not None and memory == active.averages.get(MEMORY):
        return f"suspect metrics: {busy}, and memory has not moved from {percent(memory)}"
    return None


def _are(count: int) -> str:
    return f"{nodes(count)} {'is' if count == 1 else 'are'}"


def memory_floor(seen: Situation) -> int:
    """The fewest nodes that keep memory below its limit, for rules that shrink by CPU alone.

    As if all memory were load, which errs on the safe side: what a node needs to run at all does
    not move to the others. 0 if nothing is known or limited; never above the count wished for.
    """
    average, bound = seen.averages.get(MEMORY), seen.scaling.out_above.get(MEMORY)
    if average is None or not bound:
        return 0
    return min(seen.desired, math.ceil(average * seen.counted / bound))


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMES])
    return shown if len(names) <= NAMES else f"{shown} and {len(names) - NAMES} more"


def ceiling(seen: Situation) -> int:
    """The largest count that leaves room for servers of which nobody knows whether they run."""
    observation = seen.observation
    present = seen.counted + observation.booting + observation.unknown
    strays = max(0, present - observation.desired) if observation.unknown else 0
    return max(observation.desired, seen.scaling.max - strays)


def cooldown(seen: Situation, cooldown_s: float) -> float:
    """Seconds until `cooldown_s` have passed since the last change in either direction."""
    times = [at for at in (seen.last_out_at, seen.last_in_at) if at is not None]
    if not times:
        return 0.0
    # A time ahead of now comes from before a reboot of this machine: nothing is known then.
    last = max(times)
    return max(0.0, last + cooldown_s - seen.now) if last <= seen.now else 0.0
