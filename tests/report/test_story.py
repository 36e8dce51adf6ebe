"""What a recording tells, in figures."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.wire.event import EventKind
from labcore.wire.scaler import (
    Action,
    BalancerStatus,
    GroupStatus,
    Health,
    NodeStatus,
    ScalerStatus,
)
from labctl.report.recording import NodePoint, Recording, Sample, take_sample
from labctl.report.story import Span, decisions, node_order, spans, summarise
from tests.report import made_up


def test_the_figures_of_a_good_run():
    summary = summarise(made_up.recording())
    assert summary.succeeded
    assert (summary.scale_out, summary.scale_in) == (1, 1)
    assert (summary.requests_sent, summary.requests_failed) == (1900, 0)
    assert summary.seconds == made_up.END
    assert summary.up_s == made_up.UP
    assert summary.decide_out_s == made_up.OUT - made_up.LOAD
    assert summary.join_s == made_up.JOINED - made_up.OUT
    assert summary.decide_in_s == made_up.IN - made_up.STOPPED
    assert summary.leave_s == made_up.OFF - made_up.IN


def without(change: str) -> Recording:
    whole = made_up.recording()
    kept = tuple(event for event in whole.events if event.data.get("change") != change)
    return dataclasses.replace(whole, events=kept)


@pytest.mark.parametrize(
    "recording",
    [
        made_up.recording(failed=1),
        made_up.recording(problem="interrupted"),
        dataclasses.replace(made_up.recording(), load=None),
        without("joined"),
        without("removed"),
    ],
)
def test_anything_less_is_no_success(recording: Recording):
    assert not summarise(recording).succeeded


def test_a_removal_called_off_is_neither_out_nor_in():
    whole = made_up.recording()
    again = made_up.event(30, EventKind.MEMBERSHIP, "stays", "agent-1", change="joined")
    summary = summarise(dataclasses.replace(whole, events=(*whole.events, again)))
    assert (summary.scale_out, summary.scale_in) == (1, 1)


def test_a_run_that_never_came_up():
    bare = dataclasses.replace(
        made_up.recording(problem="x"), events=(), samples=(), marks=(), load=None
    )
    summary = summarise(bare)
    assert (summary.up_s, summary.join_s, summary.leave_s) == (None, None, None)
    assert spans(bare) == ()


def test_spans_of_each_node():
    found = spans(made_up.recording())
    assert [(s.node, s.phase) for s in found] == [
        ("agent-1", "booting"),
        ("agent-1", "serving"),
        ("agent-2", "booting"),
        ("agent-2", "serving"),
        ("agent-3", "booting"),
        ("agent-3", "serving"),
        ("agent-3", "draining"),
    ]
    assert found[0] == Span("agent-1", "booting", 2.0, 5.0)
    assert found[-1] == Span("agent-3", "draining", 74.0, 77.0)


phases = st.sampled_from(["booting", "serving", "draining", "off"])


@given(st.lists(st.dictionaries(st.sampled_from(["agent-1", "agent-2"]), phases), min_size=1))
def test_spans_of_a_node_never_overlap(rounds: list[dict[str, str]]):
    samples = tuple(
        Sample(
            made_up.at(n), 2, 2, tuple(NodePoint(node, phase, True) for node, phase in seen.items())
        )
        for n, seen in enumerate(rounds)
    )
    ended = made_up.at(len(rounds))
    recording = dataclasses.replace(made_up.recording(), events=(), samples=samples, ended_at=ended)
    found = spans(recording)
    for node in ("agent-1", "agent-2"):
        own = [span for span in found if span.node == node]
        assert all(a.end_s <= b.begin_s for a, b in itertools.pairwise(own))
        seen = sum(1 for one in rounds if one.get(node, "off") != "off")
        assert sum(span.end_s - span.begin_s for span in own) == seen


def test_decisions_are_those_that_change_something_numbered_from_1():
    told = decisions(made_up.recording())
    assert [(t.number, t.decision.action) for t in told] == [(1, Action.OUT), (2, Action.IN)]


def test_a_decision_of_another_version_is_passed_over():
    odd = made_up.event(3, EventKind.DECISION, "?", what=1)
    whole = made_up.recording()
    assert len(decisions(dataclasses.replace(whole, events=(odd, *whole.events)))) == 2


def test_node_order():
    assert sorted(["agent-10", "agent-2", "control"], key=node_order) == [
        "agent-2",
        "agent-10",
        "control",
    ]


def test_a_sample_keeps_the_scaled_group_only():
    def node(name: str, group: str) -> NodeStatus:
        return NodeStatus(name, group, Health.HEALTHY, True, "serving", 12.5, 30.0, 0)

    status = ScalerStatus(
        lab="demo",
        at=made_up.at(1),
        manager_reachable=True,
        balancer=BalancerStatus("g1", {"agent": ("agent-1",)}),
        groups=(GroupStatus("agent", "auto", "threshold", 2, 5, 3, 2, 0.0, None, None),),
        nodes=(node("agent-1", "agent"), node("api-1", "api")),
    )
    assert take_sample(status, "agent") == Sample(
        made_up.at(1), 3, 2, (NodePoint("agent-1", "serving", True, 12.5),)
    )
