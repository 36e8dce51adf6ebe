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
    head = f"Decision {decision.seq} at {decision.at[11:19]}: {_verdict(decision)}"
    lines = textwrap.wrap(_sentence(head), _WIDTH, subsequent_indent="  ")
    lines += _section("It saw:", [_sample(sample) for sample in decision.samples])
    lines += _section("Taken together:", _together(decision.inputs))
    lines += _section("The rule says:", [_sentence(reason) for reason in decision.reasons])
    lines += _section("But:", [_sentence(veto) for veto in decision.vetoes])
    return "\n".join(lines)


def _verdict(decision: Decision) -> str:
    group, policy = f"group {decision.group}", f"policy {decision.policy}"
    if decision.action is Action.HOLD:
        stays = f"{group} stays at {_nodes(decision.count)}"
        return f"{stays}, though {policy} asks for a change" if decision.vetoes else stays
    grows = "grows" if decision.action is Action.OUT else "shrinks"
    # What is there may be another count than what is wished for, while some boot or are lost.
    change = f"{group} {grows} to {_nodes(decision.count)}"
    there = f"{decision.current} {'is' if decision.current == 1 else 'are'} there"
    return f"{change}, as {policy} asks for; {there}"


def _nodes(count: int) -> str:
    return f"{count} node" if count == 1 else f"{count} nodes"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _section(title: str, sentences: list[str]) -> list[str]:
    wrapped = [
        textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      ")
        for text in sentences
    ]
    return [f"  {title}", *wrapped] if sentences else []


def _sample(sample: NodeSample) -> str:
    if sample.cpu_percent is None and sample.memory_percent is None:
        return f"{sample.node}: told nothing, or nothing new"
    many = "request" if sample.in_flight == 1 else "requests"
    busy = f", {sample.in_flight} {many} in flight" if sample.in_flight is not None else ""
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
