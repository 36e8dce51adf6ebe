"""How long a service waits before it starts again, on a fake clock with real processes."""

import os
from pathlib import Path

import pytest

from labcore.clock import FakeClock
from labcore.services import Unit
from server_manager.drivers.local.plan import LOGS, Plan
from server_manager.drivers.local.supervisor import MOST_LOG_BYTES, Child, Phase


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_child(tmp_path: Path, clock: FakeClock):
    (tmp_path / LOGS).mkdir()

    def make(*argv: str, prepare: tuple[str, ...] | None = None) -> Child:
        unit = Unit("s", argv, prepare, {"PATH": "/bin"}, str(tmp_path / "s"), (), 15, 3.0)
        return Child(unit, Plan((), (unit,)), tmp_path, clock)

    return make


def live(child: Child, clock: FakeClock, seconds: float = 0.0) -> None:
    """Let its process run to its end, `seconds` on the fake clock."""
    assert child.pid is not None
    _, status = os.waitpid(child.pid, 0)
    clock.advance(seconds)
    child.ended(status)


def pause_s(child: Child, clock: FakeClock) -> float:
    assert child.phase is Phase.WAITING
    assert child.due is not None
    return round(child.due - clock.monotonic(), 6)


def test_the_pause_grows_to_five_seconds_and_is_forgotten_after_a_long_life(make_child, clock):
    child = make_child("false")
    pauses = []
    for life_s in (0, 0, 0, 9.9, 0, 0, 0, 0, 10.0, 0):
        child.start()
        live(child, clock, life_s)
        pauses.append(pause_s(child, clock))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1, 0.2]


def test_a_program_that_is_not_there_is_tried_again(make_child, clock, tmp_path):
    child = make_child("/no/such/program")
    child.start()
    assert pause_s(child, clock) == 0.1
    assert child.tried
    log = (tmp_path / LOGS / "s.log").read_text()
    assert "cannot run '/no/such/program'" in log
    assert "started again in 0.1 s" in log


def test_it_runs_only_after_its_preparation(make_child, clock, tmp_path):
    child = make_child("echo", "run", prepare=("echo", "prepare"))
    child.start()
    assert (child.phase, child.tried) == (Phase.PREPARING, False)
    live(child, clock)
    assert (child.phase, child.tried) == (Phase.RUNNING, True)
    live(child, clock)
    assert (tmp_path / LOGS / "s.log").read_text().splitlines()[:2] == ["prepare", "run"]


def test_a_preparation_that_fails_is_tried_again_and_holds_nobody_up(make_child, clock, tmp_path):
    child = make_child("echo", "run", prepare=("sh", "-c", "echo no config; exit 3"))
    child.start()
    live(child, clock)
    assert pause_s(child, clock) == 0.1
    assert child.tried
    log = (tmp_path / LOGS / "s.log").read_text()
    assert "no config\n" in log
    assert "its preparation ended with exit code 3" in log
    assert "run" not in log.split()


def test_a_preparation_has_a_limit(make_child, clock):
    child = make_child("true", prepare=("sleep", "3600"))
    child.start()
    assert child.due == clock.monotonic() + 60.0
    child.kill()
    live(child, clock, 60.0)
    assert child.phase is Phase.WAITING


def test_what_is_told_to_stop_stays_stopped(make_child, clock):
    child = make_child("sleep", "3600")
    child.start()
    child.stop()
    assert child.phase is Phase.STOPPING
    assert child.due == clock.monotonic() + 3.0
    live(child, clock)
    assert (child.phase, child.pid, child.due) == (Phase.WAITING, None, None)


def test_a_long_log_is_put_aside_when_the_service_starts(make_child, clock, tmp_path):
    log = tmp_path / LOGS / "s.log"
    log.write_bytes(b"x" * (MOST_LOG_BYTES + 1))
    child = make_child("echo", "new")
    child.start()
    live(child, clock)
    assert log.read_text().startswith("new\n")
    assert (tmp_path / LOGS / "s.log.1").stat().st_size == MOST_LOG_BYTES + 1
