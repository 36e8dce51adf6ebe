"""The engine against real servers: every request is sent once, and every one is accounted for."""

import socket
import threading

import pytest

from labcore.clock import SystemClock
from labcore.codec import decode, encode
from labcore.errors import UsageProblem
from labcore.waiting import NotYet, wait_until
from labctl.load.background import BackgroundLoad
from labctl.load.engine import run_load
from labctl.load.schedule import constant, parse_schedule
from labctl.load.types import LoadPlan, LoadReport, Progress
from tests.load import servers

CLOCK = SystemClock()


def balanced(report: LoadReport) -> bool:
    rows = report.series
    return (
        report.sent == report.ok + report.rejected + report.failed
        and report.failed == sum(report.failures.values())
        and report.sent == sum(row.sent for row in rows)
        and all(row.sent == row.ok + row.rejected + row.failed for row in rows)
    )


def test_all_is_well():
    with servers.serving(servers.well) as peer:
        report = run_load(LoadPlan(peer.url, constant(100, 0.5)), CLOCK)
    assert (report.sent, report.ok, report.failed, len(peer.requests)) == (50, 50, 0, 50)
    assert report.statuses == {"200": 50}
    assert report.backends == {"agent-1": 50}
    assert balanced(report)
    assert peer.connections < 50
    latency = report.latency
    assert latency.p50_ms is not None
    assert latency.p95_ms is not None
    assert latency.max_ms is not None
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.max_ms
    assert decode(LoadReport, encode(report)) == report


def test_without_keepalive_each_request_has_its_connection():
    with servers.serving(servers.well) as peer:
        plan = LoadPlan(peer.url, constant(40, 0.5), keepalive=False)
        assert run_load(plan, CLOCK).ok == 20
    assert peer.connections == 20


def test_method_path_and_body_arrive():
    with servers.serving(servers.well) as peer:
        plan = LoadPlan(peer.url + "work?ms=20&x=%2F", constant(10, 0.3), "POST", body="x" * 10)
        assert run_load(plan, CLOCK).ok == 3
    assert peer.requests == ["POST /work?ms=20&x=%2F HTTP/1.1"] * 3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_lost_on_a_kept_connection_is_not_sent_again(method: str):
    """aiohttp itself would send the GET a second time and hide the loss."""
    with servers.serving(servers.second_request_unanswered) as peer:
        report = run_load(LoadPlan(peer.url, constant(20, 0.5), method, connections=1), CLOCK)
    assert report.sent == len(peer.requests) == 10
    assert (report.ok, report.failures) == (5, {"reset": 5})
    assert balanced(report)


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        (servers.resets, "reset"),
        (servers.breaks_off, "truncated"),
        (servers.babbles, "bad-answer"),
        (servers.silent, "timeout"),
        (servers.says(502), "status-502"),
        (servers.says(503), "status-503"),
    ],
)
def test_failures_are_told_apart(behaviour: servers.Answer, cause: str):
    with servers.serving(behaviour) as peer:
        report = run_load(LoadPlan(peer.url, constant(20, 0.25), timeout_s=0.3), CLOCK)
    assert (report.sent, report.failed, report.failures) == (5, 5, {cause: 5})
    assert len(peer.requests) == 5
    assert balanced(report)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    report = run_load(LoadPlan(f"http://127.0.0.1:{port}/", constant(20, 0.25)), CLOCK)
    assert report.failures == {"connect-refused": 5}
    assert report.latency.p95_ms is None
    assert balanced(report)


def test_4xx_is_rejected_and_a_redirect_is_an_answer():
    with servers.serving(servers.says(404)) as peer:
        report = run_load(LoadPlan(peer.url, constant(20, 0.25)), CLOCK)
    assert (report.rejected, report.failed, report.ok) == (5, 0, 0)
    with servers.serving(servers.says(302)) as peer:
        report = run_load(LoadPlan(peer.url, constant(20, 0.25)), CLOCK)
    assert (report.ok, len(peer.requests)) == (5, 5)


def test_a_late_answer_slows_nobody_and_counts_from_the_intended_moment():
    """A closed model would send 1 request here, not 40, and call the rest fast."""
    release = threading.Event()

    def when_released(client: socket.socket, count: int) -> bool:
        release.wait(10)
        return servers.well(client, count)

    with servers.serving(when_released) as peer:
        load = BackgroundLoad(LoadPlan(peer.url, constant(80, 0.5)), CLOCK)
        load.start()
        _until(lambda: len(peer.requests) == 40)
        release.set()
        report = load.wait()
    assert report.ok == 40
    assert report.latency.max_ms is not None
    assert report.latency.max_ms > 400


def test_waiting_for_a_connection_is_latency():
    def slowly(client: socket.socket, count: int) -> bool:
        threading.Event().wait(0.05)
        return servers.well(client, count)

    with servers.serving(slowly) as peer:
        report = run_load(LoadPlan(peer.url, constant(100, 0.1), connections=1), CLOCK)
    assert peer.connections == 1
    assert report.latency.max_ms is not None
    assert report.latency.max_ms > 300  # 10 requests, one after the other


def test_stop_ends_sending_and_loses_nothing():
    with servers.serving(servers.well) as peer:
        load = BackgroundLoad(LoadPlan(peer.url, constant(50, 3600)), CLOCK)
        load.start()
        _until(lambda: len(peer.requests) >= 5)
        load.stop()
        load.stop()
        report = load.wait()
    assert load.wait() is report
    assert report.stopped
    assert report.sent == report.ok == len(peer.requests)
    assert report.sent < 500


def test_a_run_that_was_never_started_has_sent_nothing():
    load = BackgroundLoad(LoadPlan("http://127.0.0.1:9/", constant(50, 3600)), CLOCK)
    load.stop()
    assert (load.wait().sent, load.wait().stopped) == (0, True)


def test_a_generator_that_falls_behind_says_so():
    """The loop is held up on purpose, as a starved laptop would."""
    with servers.serving(servers.well) as peer:
        busy = CLOCK.monotonic

        def hold_up(_: object) -> None:
            until = busy() + 0.3
            while busy() < until:
                pass

        plan = LoadPlan(peer.url, parse_schedule("50:2s"))
        report = run_load(plan, CLOCK, on_progress=hold_up)
    assert report.late >= 5
    assert report.sent == report.ok == 100


def test_progress_adds_up():
    seen: list[Progress] = []
    with servers.serving(servers.well) as peer:
        run_load(LoadPlan(peer.url, constant(40, 1.2)), CLOCK, on_progress=seen.append)
    assert len(seen) == 2
    assert seen[0].sent < seen[-1].sent == seen[-1].ok == 48
    assert 25 < seen[0].rps < 55
    assert seen[0].target_rps == 40
    assert seen[-1].in_flight == 0


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan("ftp://127.0.0.1/", constant(1, 1)),
        LoadPlan("http://", constant(1, 1)),
        LoadPlan("http://127.0.0.1:x/", constant(1, 1)),
        LoadPlan("http://127.0.0.1/", constant(1, 1), method="GE T"),
        LoadPlan("http://127.0.0.1/", constant(1, 1), timeout_s=0),
        LoadPlan("http://127.0.0.1/", constant(1, 1), connections=0),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(plan: LoadPlan):
    with pytest.raises(UsageProblem):
        run_load(plan, CLOCK)
    with pytest.raises(UsageProblem):
        BackgroundLoad(plan, CLOCK)


def _until(probe):
    def check() -> None:
        if not probe():
            raise NotYet

    wait_until(check, name="the server has seen the requests", limit_s=20, clock=CLOCK)
