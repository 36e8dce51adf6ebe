"""What every LoadBalancer promises: nginx, each version of it, and the fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.harness.processes import nginx_programs
from control_node.balancer.fake import FakeBalancer
from control_node.balancer.model import Backend, LoadBalancer, Routing, View
from control_node.balancer.nginx import NginxBalancer
from labcore.clock import FakeClock
from labcore.errors import DriverFailed, Unreachable
from tests.balancer.conftest import MAIN, Apps, Rig, make_rig, named, routing

pytestmark = pytest.mark.local


@dataclass
class Subject:
    """A balancer under test and the levers that a test needs."""

    balancer: LoadBalancer
    one: Backend
    two: Backend
    reached: Callable[[], set[str]]  # who answers requests now
    settle: Callable[[], View]
    refuse: Callable[[Routing], None]  # submit it so that the balancer refuses it
    stop: Callable[[], None]
    start: Callable[[], None]


@pytest.fixture(params=["fake", *nginx_programs()], ids=named)
def subject(request: pytest.FixtureRequest, tmp_path: Path, apps: Apps) -> Iterator[Subject]:
    if request.param == "fake":
        yield fake_subject()
        return
    rig = make_rig(request.param, tmp_path)
    rig.start()
    yield nginx_subject(rig, apps)
    rig.stop()


def fake_subject() -> Subject:
    clock = FakeClock()
    fake = FakeBalancer(clock)
    fake.submit(Routing((MAIN,)))
    clock.advance(10)

    def refuse(wish: Routing) -> None:
        fake.faults.refuse_tests = 1
        fake.submit(wish)

    def settle() -> View:
        clock.advance(10)
        return fake.poll()

    def stop() -> None:
        fake.faults.down = True

    return Subject(
        fake,
        Backend("agent-1", "127.0.0.1:5001"),
        Backend("agent-2", "127.0.0.1:5002"),
        lambda: set(fake.reached()),
        settle,
        refuse,
        stop,
        fake.restart,
    )


def nginx_subject(rig: Rig, apps: Apps) -> Subject:
    balancer: NginxBalancer = rig.balancer()

    def refuse(wish: Routing) -> None:
        unknown = Backend("agent-3", "no-such-host.invalid:80")
        balancer.submit(Routing(wish.balancers, {"agent": (*wish.backends["agent"], unknown)}))

    def reached() -> set[str]:
        answers = [rig.get() for _ in range(6)]
        return {text.split("\n")[0] for status, text in answers if status == 200}

    return Subject(
        balancer,
        apps.start("agent-1"),
        apps.start("agent-2"),
        reached,
        lambda: rig.settle(balancer),
        refuse,
        rig.stop,
        rig.start,
    )


def test_at_first_nobody_is_reached(subject: Subject):
    view = subject.balancer.poll()
    assert view.confirmed
    assert view.backends == {}
    assert subject.reached() == set()


def test_a_wish_comes_true_and_is_seen(subject: Subject):
    generation = subject.balancer.submit(routing(subject.one, subject.two))
    assert subject.balancer.poll().submitted == generation
    view = subject.settle()
    assert (view.answered, view.old_workers, view.problem) == (generation, (), None)
    assert view.backends == {"agent": (subject.one, subject.two)}
    assert subject.reached() == {"agent-1", "agent-2"}


def test_whoever_leaves_is_unreached_when_drained(subject: Subject):
    subject.balancer.submit(routing(subject.one, subject.two))
    subject.settle()
    subject.balancer.submit(routing(subject.one))
    view = subject.settle()
    assert (view.may_reach("agent-1"), view.may_reach("agent-2")) == (True, False)
    assert subject.reached() == {"agent-1"}


def test_the_order_of_backends_means_nothing(subject: Subject):
    first = subject.balancer.submit(routing(subject.one, subject.two))
    assert subject.balancer.submit(routing(subject.two, subject.one)) == first
    subject.settle()
    assert subject.balancer.submit(routing(subject.two, subject.one)) == first
    assert subject.balancer.poll().drained


def test_the_newest_of_two_wishes_wins(subject: Subject):
    subject.balancer.submit(routing(subject.one))
    newest = subject.balancer.submit(routing(subject.two))
    assert subject.settle().answered == newest
    assert subject.reached() == {"agent-2"}


def test_what_is_refused_changes_nothing(subject: Subject):
    subject.balancer.submit(routing(subject.one))
    view = subject.settle()
    with pytest.raises(DriverFailed, match="refuses the configuration"):
        subject.refuse(routing(subject.two))
    assert subject.balancer.poll() == view
    assert subject.reached() == {"agent-1"}


def test_a_wish_while_it_is_down_counts_from_its_start(subject: Subject):
    subject.balancer.submit(routing(subject.one))
    subject.settle()
    subject.stop()
    with pytest.raises(Unreachable, match="nginx is not running"):
        subject.balancer.submit(routing(subject.two))
    view = subject.balancer.poll()
    assert (view.answered, view.problem) == (None, "nginx is not running")
    assert view.may_reach("agent-1")
    subject.start()
    assert subject.settle().backends == {"agent": (subject.two,)}
    assert subject.reached() == {"agent-2"}
