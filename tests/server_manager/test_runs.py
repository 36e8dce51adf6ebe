"""Runs in the background: joined, refused while another is on, cancelled."""

import threading
from collections.abc import Callable, Iterator

import pytest

from labcore.clock import FakeClock, SystemClock
from labcore.errors import Conflict
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import LabState
from server_manager.drivers.base import ServerRef, ServerSpec
from server_manager.drivers.fake import FakeDriver
from server_manager.executors import Threads
from tests.server_manager.parts import Parts, make_parts

CLOCK = SystemClock()


class Gated(FakeDriver):
    """Creates nothing until it may."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.may = threading.Event()

    def create(self, spec: ServerSpec) -> None:
        """See Driver."""
        assert self.may.wait(20)
        super().create(spec)


@pytest.fixture
def gated(tmp_path) -> Iterator[tuple[Parts, Gated]]:
    driver = Gated()
    parts = make_parts(tmp_path, driver=driver, executor=Threads(), clock=CLOCK)
    yield parts, driver
    driver.may.set()
    over(parts)
    parts.core.database.close()


def over(parts: Parts) -> None:
    def probe() -> None:
        if not parts.manager.runs.none_is_on():
            raise NotYet

    wait_until(probe, name="the run to end", limit_s=20, clock=CLOCK)


def creating(parts: Parts) -> None:
    def probe() -> None:
        if "create" not in [s.operation for s in parts.manager.lab("demo").servers]:
            raise NotYet

    wait_until(probe, name="a create", limit_s=20, clock=CLOCK)


def test_the_same_wish_is_joined_and_another_refused(gated):
    parts, driver = gated
    run = parts.up()
    creating(parts)
    assert parts.manager.lab("demo").state is LabState.CONVERGING
    assert parts.up() == run
    for other in (
        lambda: parts.manager.down("demo"),
        lambda: parts.manager.destroy("demo"),
        lambda: parts.up(scaling={"max": 9}),
    ):
        with pytest.raises(Conflict, match="still running"):
            other()
    driver.may.set()
    over(parts)
    assert parts.ends() == ["up"]


def test_a_cancelled_run_ends_what_was_begun_and_begins_nothing_more(gated):
    parts, driver = gated
    parts.up()
    creating(parts)
    parts.manager.cancel("demo")
    driver.may.set()
    over(parts)
    assert parts.ends() == ["cancelled"]
    lab = parts.manager.lab("demo")
    assert lab.problem is None
    assert all(entry.state == "done" for entry in parts.core.journal.entries())
    parts.up()
    over(parts)
    assert parts.manager.lab("demo").state is LabState.UP
    parts.manager.destroy("demo")
    over(parts)
    assert parts.ends()[-1] == "destroyed"


def test_cancelling_when_nothing_is_on_does_nothing(gated):
    parts, driver = gated
    driver.may.set()
    parts.up()
    over(parts)
    parts.manager.cancel("demo")
    assert parts.manager.lab("demo").state is LabState.UP


class Unwritable(FakeDriver):
    """From its first stop on the disk takes nothing, until somebody has waited."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.write_protect: Callable[[bool], None] = lambda on: None

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        super().stop(ref, force=force)
        self.write_protect(True)


class Mending(FakeClock):
    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.then()

    then: Callable[[], None] = staticmethod(lambda: None)


def test_the_end_of_a_run_is_written_even_if_the_disk_was_full(tmp_path):
    clock = Mending()
    driver = Unwritable(clock)
    parts = make_parts(tmp_path, driver=driver, clock=clock)
    parts.up()

    def protect(on: bool) -> None:
        parts.core.database.rows(f"PRAGMA query_only = {int(on)}")

    driver.write_protect = protect
    clock.then = lambda: protect(False)
    parts.manager.down("demo")
    assert parts.ends() == ["up", "failed"]
    assert parts.manager.lab("demo").state is LabState.FAILED
    parts.up()  # not joined to a run that nobody carries out
    assert parts.ends() == ["up", "failed", "up"]
