"""The books, without a network: laws that hold for any run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.errors import UsageProblem
from labctl.load.conditions import parse_condition
from labctl.load.recorder import Outcome, Recorder, latency
from labctl.load.schedule import constant
from labctl.load.types import LoadPlan

PLAN = LoadPlan("http://127.0.0.1/", constant(1, 1))
outcomes = st.builds(Outcome, status=st.sampled_from([200, 204, 302, 404, 429, 500, 502])) | (
    st.builds(Outcome, cause=st.sampled_from(["timeout", "reset", "connect-refused"]))
)
requests = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5), outcomes))


@given(requests)
def test_every_request_is_in_exactly_one_column(run):
    books = Recorder(PLAN)
    for due_s, _, _ in run:
        books.sent(due_s, due_s)
    assert books.in_flight == len(run)
    for due_s, took_s, outcome in run:
        books.ended(due_s, due_s + took_s, outcome)
    report = books.report("2026-01-01T00:00:00Z", stopped=False)
    assert books.in_flight == 0
    assert report.sent == len(run) == report.answered + report.failed
    assert report.answered == report.ok + report.rejected
    assert report.failed == sum(report.failures.values())
    assert sum(report.statuses.values()) == sum(1 for *_, o in run if o.status is not None)
    assert [row.at_s for row in report.series] == list(range(len(report.series)))
    for column in ("sent", "ok", "rejected", "failed"):
        assert sum(getattr(row, column) for row in report.series) == getattr(report, column)


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentiles_are_values_that_were_measured_and_rise(seconds):
    found = latency(seconds)
    assert None not in (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms)
    values = [ms or 0.0 for ms in (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms)]
    assert values == sorted(values)
    assert {round(s * 1000, 3) for s in seconds} >= set(values)
    assert found.max_ms == round(max(seconds) * 1000, 3)


def test_percentiles_by_nearest_rank():
    found = latency([n / 1000 for n in range(1, 101)])
    assert (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms) == (50, 95, 99, 100)


def test_late_is_more_than_20_ms_behind():
    books = Recorder(PLAN)
    for sent_s in (1.0, 1.019, 1.021):
        books.sent(1.0, sent_s)
    assert books.report("", stopped=False).late == 1


def a_report(status: int = 200, took_s: float = 0.6):
    books = Recorder(PLAN)
    books.sent(0.0, 0.0)
    books.ended(0.0, took_s, Outcome(status=status))
    return books.report("", stopped=False)


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("failed>0", 200, None),
        ("failed>0", 502, "failed is 1 (failed>0)"),
        (" failed >= 1 ", 502, "failed is 1 (failed>=1)"),
        ("failed_percent>99.5", 500, "failed_percent is 100 (failed_percent>99.5)"),
        ("rejected!=0", 404, "rejected is 1 (rejected!=0)"),
        ("p95_ms>500", 200, "p95_ms is 600 (p95_ms>500)"),
        ("p99_ms<=500", 200, None),
        ("ok<1", 200, None),
        ("ok==0", 500, "ok is 0 (ok==0)"),
    ],
)
def test_conditions(text, status, told):
    assert parse_condition(text).broken_by(a_report(status)) == told


def test_what_was_not_measured_is_no_success():
    books = Recorder(PLAN)
    books.sent(0.0, 0.0)
    books.ended(0.0, 0.1, Outcome(cause="reset"))
    told = parse_condition("p95_ms>500").broken_by(books.report("", stopped=False))
    assert told == "p95_ms could not be measured (p95_ms>500)"


@pytest.mark.parametrize("text", ["", "failed", "failed>", "speed>3", "failed>x", "failed=>1"])
def test_what_is_no_condition(text):
    with pytest.raises(UsageProblem, match="not understood") as caught:
        parse_condition(text)
    assert "failed, failed_percent" in caught.value.hint
