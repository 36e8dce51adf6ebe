"""The fake driver does what it is told to, on its own clock."""

import pytest

from labcore.clock import FakeClock
from labcore.errors import DriverFailed, NotFound, TimedOut
from labcore.wire.lab import PowerState
from server_manager.drivers.fake import Failure, FakeDriver
from tests.contract.rigs import LAB, make_spec

SPEC = make_spec()
REF = SPEC.ref


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def driver(clock: FakeClock) -> FakeDriver:
    driver = FakeDriver(clock, boot_s=5.0)
    driver.create(SPEC)
    return driver


def state(driver: FakeDriver) -> PowerState:
    return driver.get(REF).state


@pytest.mark.parametrize(
    ("failure", "raised", "after", "takes_s"),
    [
        (Failure.REFUSED, DriverFailed, PowerState.STOPPED, 0.0),
        (Failure.DONE, DriverFailed, PowerState.STARTING, 0.0),
        (Failure.SKIPPED, None, PowerState.STOPPED, 0.0),
        (Failure.HANGING, TimedOut, PowerState.STOPPED, 7.0),
        (Failure.DONE_LATE, TimedOut, PowerState.RUNNING, 7.0),
    ],
)
def test_a_planned_failure(driver, clock, failure, raised, after, takes_s):
    before = clock.monotonic()
    driver.fail("start", failure, limit_s=7.0)
    if raised is None:
        driver.start(REF)
    else:
        with pytest.raises(raised, match="agent-1"):
            driver.start(REF)
    assert clock.monotonic() - before == takes_s
    assert state(driver) is after
    driver.start(REF)  # planned for one call only
    assert state(driver) in (PowerState.STARTING, PowerState.RUNNING)


def test_a_failure_of_several_calls_on_one_node(driver):
    other = make_spec("agent-2")
    driver.create(other)
    driver.fail("start", node="agent-1", times=2)
    for _ in range(2):
        driver.start(other.ref)
        with pytest.raises(DriverFailed):
            driver.start(REF)
    driver.start(REF)


@pytest.mark.parametrize("failure", list(Failure))
def test_a_failed_question_is_unknown_never_absent(driver, failure):
    driver.fail("get", failure)
    assert state(driver) is PowerState.UNKNOWN
    assert state(driver) is PowerState.STOPPED


def test_booting_takes_its_time(driver, clock):
    driver.set_boot(LAB, "agent-1", 20.0)
    driver.start(REF)
    clock.advance(19.9)
    assert state(driver) is PowerState.STARTING
    clock.advance(0.1)
    assert state(driver) is PowerState.RUNNING


def test_a_server_dies_when_it_is_told_to(driver, clock):
    driver.start(REF)
    driver.die(LAB, "agent-1", after_s=30.0)
    clock.advance(29.0)
    assert state(driver) is PowerState.RUNNING
    clock.advance(1.0)
    server = driver.get(REF)
    assert server.state is PowerState.STOPPED
    assert server.problem
    driver.start(REF)
    clock.advance(100.0)
    assert driver.get(REF).state is PowerState.RUNNING
    assert driver.get(REF).problem is None


def test_states_that_only_a_back_end_can_have(driver):
    driver.start(REF)
    driver.tell(LAB, "agent-1", PowerState.LOST)
    assert state(driver) is PowerState.LOST
    driver.tell(LAB, "agent-1", None)
    assert state(driver) is PowerState.STARTING


@pytest.mark.parametrize("call", ["die", "tell"])
def test_plans_for_a_server_that_is_not_there(driver, call):
    arguments = (PowerState.LOST,) if call == "tell" else ()
    with pytest.raises(NotFound):
        getattr(driver, call)(LAB, "agent-7", *arguments)


def test_every_call_is_remembered(driver, clock):
    driver.calls.clear()
    driver.start(REF)
    clock.advance(2.0)
    driver.fail("stop")
    with pytest.raises(DriverFailed):
        driver.stop(REF)
    assert [(c.operation, c.node, c.at_s - driver.calls[0].at_s) for c in driver.calls] == [
        ("start", "agent-1", 0.0),
        ("stop", "agent-1", 2.0),
    ]
