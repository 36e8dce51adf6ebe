"""Events and decisions, found and put into words."""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Iterator, Mapping

from labcore.codec import decode
from labcore.errors import LabError, NotFound, UsageProblem
from labcore.manager_client import ManagerClient
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Lab
from labcore.wire.scaler import Action, Decision, NodeSample
from labctl.session import Session

_PAGE = 1000
_WAIT_S = 10.0
_MOST_DECISIONS = 200
_COUNTS = {
    "serving": "serving",
    "missing": "of them silent",
    "booting": "booting",
    "draining": "draining",
    "unknown": "of unknown state",
}
_WIDTH = 80


def events(manager: ManagerClient, lab: str | None, last: int, *, follow: bool) -> Iterator[Event]:
    """The `last` events of a lab (None: of all), oldest first; then, if asked, those to come."""
    position = 0
    kept: deque[Event] = deque(maxlen=last)
    while page := manager.events(lab, after=position, limit=_PAGE):
        position = page[-1].seq
        kept.extend(page)
    yield from kept
    while follow:
        for event in manager.events(lab, after=position, wait_s=_WAIT_S):
            position = event.seq
            yield event


def line(event: Event) -> str:
    """An event in at most 80 columns a line."""
    text = f"{event.at[11:19]} {event.kind:<10} {event.message}"
    return "\n".join(textwrap.wrap(text, _WIDTH, subsequent_indent=" " * 20) or [text])


def decisions(
    session: Session, lab: Lab, which: str, group: str | None, last: int
) -> list[Decision]:
    """The decision with that seq, or the `last` ones. Raises NotFound, UsageProblem."""
    if which != "last" and not which.isdigit():
        raise UsageProblem(f"{which!r} is no decision", "its number, or: last")
    known = [d for d in _known(session, lab) if group in (None, d.group)]
    found = known[-last:] if which == "last" else [d for d in known if d.seq == int(which)]
    if not found:
        numbers = f"known: {known[0].seq} to {known[-1].seq}" if known else "none was made yet"
        what = "decision" if which == "last" else f"decision {which}"
        raise NotFound(f"lab {lab.lab!r} has no {what}", numbers)
    return found


def _known(session: Session, lab: Lab) -> list[Decision]:
    """What the scaler remembers; if it does not answer, what it posted as events."""
    try:
        if told := session.scaler(lab).decisions(limit=_MOST_DECISIONS):
            return list(told)
    except LabError:
        pass
    posted = events(session.manager, lab.lab, 10 * _PAGE, follow=False)
    return [decode(Decision, e.data) for e in posted if e.kind is EventKind.DECISION]


def explained(decision: Decision) -> str:
    """A decision as a student would want it told."""
    verdict = {
        Action.OUT: f"one more: {decision.current} -> {decision.count}",
        Action.IN: f"one fewer: {decision.current} -> {decision.count}",
        Action.HOLD: f"stay at {decision.current}",
    }[decision.action]
    if abs(decision.count - decision.current) > 1:
        verdict = f"{decision.current} -> {decision.count}"
    head = f"Decision {decision.seq} at {decision.at[11:19]}, group {decision.group}, "
    lines = [f"{head}policy {decision.policy}: {verdict}."]
    lines += _section("It saw:", [_sample(sample) for sample in decision.samples])
    lines += _section("Taken together:", _together(decision.inputs))
    lines += _section("The rule:", list(decision.reasons))
    lines += _section("But:", list(decision.vetoes))
    return "\n".join(lines)


def _section(title: str, sentences: list[str]) -> list[str]:
    wrapped = [
        textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      ")
        for text in sentences
    ]
    return [f"  {title}", *wrapped] if sentences else []


def _sample(sample: NodeSample) -> str:
    if sample.cpu_percent is None and sample.memory_percent is None:
        return f"{sample.node}: nothing, or nothing new"
    busy = f", {sample.in_flight} requests in flight" if sample.in_flight is not None else ""
    cpu, memory = _number(sample.cpu_percent), _number(sample.memory_percent)
    return f"{sample.node}: CPU {cpu} %, memory {memory} %{busy}"


def _together(inputs: Mapping[str, float | None]) -> list[str]:
    """What the samples come to; of that which is not there nothing is said."""
    averages = [
        f"average {name} {_number(inputs[key])} %"
        for key, name in (("cpu_percent", "CPU"), ("memory_percent", "memory"))
        if inputs.get(key) is not None
    ]
    counts = [f"{inputs[key]:g} {word}" for key, word in _COUNTS.items() if inputs.get(key)]
    waits = inputs.get("cooldown_remaining_s")
    cooldown = [f"{waits:.0f} s of cooldown left"] if waits else []
    parts = [", ".join(averages), ", ".join(counts), *cooldown]
    return ["; ".join(filter(None, parts))] if any(parts) else []


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}".removesuffix(".0")
