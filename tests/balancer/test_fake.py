"""The fake's own promises: virtual time and planned faults."""

from control_node.balancer.fake import FakeBalancer, Faults
from control_node.balancer.model import Backend
from labcore.clock import FakeClock
from tests.balancer.conftest import routing

ONE, TWO = Backend("agent-1", "h:1"), Backend("agent-2", "h:2")


def make(faults: Faults | None = None) -> tuple[FakeClock, FakeBalancer]:
    clock = FakeClock()
    fake = FakeBalancer(clock)
    fake.submit(routing(ONE, TWO))
    clock.advance(5)
    assert fake.poll().drained
    fake.faults = faults or Faults()
    return clock, fake


def test_a_reload_takes_its_time():
    clock, fake = make()
    fake.submit(routing(ONE))
    assert not fake.poll().confirmed
    assert fake.reached() == {"agent-1", "agent-2"}
    clock.advance(0.2)
    assert fake.poll().confirmed
    assert not fake.poll().drained
    assert fake.reached() == {"agent-1", "agent-2"}
    clock.advance(1)
    assert fake.poll().drained
    assert fake.reached() == {"agent-1"}


def test_nobody_lingers_longer_than_drain_s():
    clock, fake = make()
    fake.linger_s = 100
    fake.submit(routing(ONE, drain_s=3))
    clock.advance(29)
    assert not fake.poll().drained
    clock.advance(2)
    assert fake.poll().drained


def test_a_lost_signal_is_not_repaired_by_itself():
    clock, fake = make(Faults(ignore_reloads=1))
    fake.submit(routing(ONE))
    clock.advance(60)
    assert not fake.poll().confirmed
    fake.submit(routing(ONE))
    clock.advance(5)
    assert fake.poll().drained


def test_a_stuck_worker_reaches_whom_it_knew_until_nginx_restarts():
    clock, fake = make(Faults(stuck_workers=1))
    fake.submit(routing(ONE))
    clock.advance(3600)
    assert fake.poll().confirmed
    assert fake.poll().may_reach("agent-2")
    assert "agent-2" in fake.reached()
    fake.restart()
    assert fake.poll().drained
    assert fake.reached() == {"agent-1"}
