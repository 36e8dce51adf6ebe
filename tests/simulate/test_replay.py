"""What another policy would have said to a record of decisions."""

import json

import pytest

from labcore import codec
from labcore.errors import NotFound, UsageProblem
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Scaling
from labcore.wire.scaler import Action, Decision, NodeSample
from labctl.simulate.command import Plan, answers, answers_table
from labctl.simulate.replay import read_decisions, replay


def decision(
    second: int, cpu: float, desired: int, count: int, group: str = "agent", **inputs: float
) -> Decision:
    action = Action.HOLD
    if count != desired:
        action = Action.OUT if count > desired else Action.IN
    nodes = desired - int(inputs.get("booting", 0))
    return Decision(
        seq=second,
        at=f"2026-03-02T10:{second // 60:02}:{second % 60:02}.000Z",
        group=group,
        policy="threshold",
        action=action,
        current=desired,
        count=count,
        reasons=("as recorded",),
        samples=tuple(NodeSample(f"agent-{i + 1}", cpu, 30.0) for i in range(nodes)),
        inputs={"desired": float(desired), **inputs},
    )


RECORD = (
    decision(0, 50.0, 2, 2),
    decision(10, 95.0, 2, 3),
    decision(20, 95.0, 3, 3, booting=1.0),
    decision(30, 64.0, 3, 3),
)


def write(path, decisions, lines=False):
    events = [
        Event(d.seq, d.at, "demo", EventKind.DECISION, "told", data=codec.encode(d))
        for d in decisions
    ]
    told = [codec.encode(Event(0, "2026-03-02T10:00:00.000Z", "demo", EventKind.LAB, "up"))]
    told += [codec.encode(event) for event in events]
    path.write_text("\n".join(map(json.dumps, told)) if lines else json.dumps(told))
    return path


@pytest.mark.parametrize("lines", [False, True])
def test_decisions_are_found_among_the_events(tmp_path, lines):
    assert read_decisions(write(tmp_path / "events.json", RECORD, lines)) == RECORD


def test_the_recorded_policy_says_what_was_recorded():
    said = replay("threshold", Scaling(), RECORD)
    assert [(a.action, a.count) for a in said] == [(d.action, d.count) for d in RECORD]


def test_another_policy_is_shown_the_same_past():
    said = replay("target", Scaling(policy="target"), RECORD)
    # 50 % asks for ceil(1.43) = 2; 95 % for ceil(2.71) = 3; then 3 of which 1 boots; 64 % is near
    assert [a.count for a in said] == [2, 3, 3, 3]
    said = replay("predictive", Scaling(policy="predictive", options={"spare": 1.0}), RECORD)
    assert [a.count for a in said] == [3, 4, 5, 5]  # of one look, of the mean of two, of a line


def test_cooldowns_are_those_of_what_happened():
    record = (*RECORD[:2], decision(20, 95.0, 3, 3))
    said = replay("threshold", Scaling(), record)
    assert said[2].vetoes == ("the cooldown after the last change lasts 20 s more",)


def test_holds_that_were_not_told_again_count_as_evaluations():
    """A scaler tells equal holds only now and then; three periods still agree over such a gap."""
    record = (decision(0, 75.0, 3, 3), decision(60, 75.0, 3, 3))
    said = replay("slow", Scaling(evaluation_periods=3), record)
    assert [a.action for a in said] == [Action.HOLD, Action.OUT]


def test_groups_have_their_own_history():
    record = (decision(0, 95.0, 2, 3, "a"), decision(10, 95.0, 2, 3, "b"))
    assert [a.action for a in replay("threshold", Scaling(), record)] == [Action.OUT] * 2


def test_the_table_shows_where_it_differs(tmp_path):
    path = write(tmp_path / "events.json", RECORD)
    rows = answers(Plan(policies=("manual",), max=5), path)
    assert answers_table(rows) == [
        "2026-03-02T10:00:10.000Z  agent  threshold: out to 3, manual: hold at 2 "
        "(policy manual: only people change the count)",
        "manual: decides otherwise in 1 of 4 decisions",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "not a JSON list of events"),
        ("[]", "holds 0 events, none of them a decision"),
        ('[{"seq": 1}]', "field 'at' is missing"),
        ("[3]", "expected an object"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "events.json"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=message):
        read_decisions(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        read_decisions(tmp_path / "no.json")
