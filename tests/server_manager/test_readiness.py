"""The gates of guests: in their order, with a limit for all, and the last evidence."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.clock import FakeClock
from labcore.errors import DriverFailed
from server_manager.drivers.base import Capabilities, ServerRef
from server_manager.drivers.fake import CAPABILITIES, FakeDriver
from tests.server_manager.parts import Parts, make_parts

GATES = ("created", "booted", "configured", "ssh", "healthy", "serving")
GUESTS = dataclasses.replace(CAPABILITIES, access="ssh", gates=GATES, boot_limit_s=300.0)
SSH_1 = "127.0.0.1:2224"  # of agent-1

Make = Callable[..., Parts]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(capabilities: Capabilities = GUESTS) -> Parts:
        clock = FakeClock()
        driver = FakeDriver(clock, capabilities=capabilities)
        return make_parts(tmp_path / "state", driver=driver, clock=clock)

    return made


def passed(parts: Parts, run: int, node: str) -> list[str]:
    events = parts.core.events.after(run, "demo", 1000)
    return [str(e.data["gate"]) for e in events if e.kind == "gate" and e.node == node]


def problem(parts: Parts, node: str = "agent-1") -> str:
    events = parts.core.events.after(0, "demo", 1000)
    found = [e for e in events if e.kind == "problem" and e.node == node]
    return f"{found[-1].message} | {found[-1].data['hint']} | {found[-1].data.get('details')}"


def test_a_guest_passes_every_gate_in_order(make: Make) -> None:
    parts = make()
    run = parts.up()
    assert passed(parts, run, "agent-1") == list(GATES)
    assert passed(parts, run, "control") == list(GATES[:-1])


def test_an_ssh_banner_says_that_the_seed_is_applied(make: Make) -> None:
    parts = make(dataclasses.replace(GUESTS, console_log=False))
    assert passed(parts, parts.up(), "agent-1") == list(GATES)


def test_a_seed_is_applied_before_anybody_greets(make: Make) -> None:
    parts = make()
    parts.prober.silent.add(SSH_1)
    parts.driver.print_line("demo", "agent-1", "serial", "labctl-seed: applied 12ab")
    run = parts.up()
    assert passed(parts, run, "agent-1") == ["created", "booted", "configured"]
    said = problem(parts)
    assert "demo/agent-1 to answer SSH: not within 300 s" in said
    assert f"last seen: {SSH_1} does not greet; console: serial | labctl-seed: applied" in said
    assert "labctl logs agent-1 console --lab demo" in said


def test_a_machine_that_says_nothing_is_told_so(make: Make) -> None:
    parts = make()
    parts.prober.silent.add(SSH_1)
    assert passed(parts, parts.up(), "agent-1") == ["created", "booted"]
    assert "to apply its seed: not within 300 s" in problem(parts)
    assert "its console is silent" in problem(parts)


def test_a_seed_that_cannot_be_applied_ends_it_at_once(make: Make) -> None:
    parts = make()
    parts.prober.silent.add(SSH_1)
    boots = [f"[  OK  ] Started {unit}." for unit in range(50)]
    for line in ("labctl-seed: applied 1", "boot", "labctl-seed: failed: no disk", *boots):
        parts.driver.print_line("demo", "agent-1", "serial", line)
    before = parts.clock.monotonic()
    parts.up()
    assert parts.clock.monotonic() - before < 60
    assert "could not apply its seed" in problem(parts)
    assert "labctl-seed: failed: no disk" in problem(parts)
    assert problem(parts).count("[  OK  ]") == 20


def test_a_machine_that_dies_ends_it_at_once_with_its_console(make: Make) -> None:
    parts = make()
    parts.up()
    parts.prober.silent.add(SSH_1)
    parts.driver.print_line("demo", "agent-1", "serial", "Kernel panic - not syncing")
    parts.driver.die("demo", "agent-1", after_s=30.0)
    before = parts.clock.monotonic()
    parts.up()
    assert 30 <= parts.clock.monotonic() - before < 60
    assert "demo/agent-1 is stopped" in problem(parts)
    assert "Kernel panic" in problem(parts)


def test_all_gates_share_one_limit(make: Make) -> None:
    parts = make()
    parts.driver.set_boot("demo", "agent-1", 200.0)
    parts.prober.sick.add("127.0.0.1:5101")
    before = parts.clock.monotonic()
    parts.up()
    assert 300 <= parts.clock.monotonic() - before < 310
    assert "to be healthy: not within 99" in problem(parts) or "100" in problem(parts)


def test_a_console_that_cannot_be_read_is_no_reason_to_give_up(tmp_path: Path) -> None:
    class Locked(FakeDriver):
        def console_log(self, ref: ServerRef, source: str | None, lines: int) -> tuple[str, ...]:
            raise DriverFailed("it is locked")

    clock = FakeClock()
    driver = Locked(clock, capabilities=GUESTS)
    parts = make_parts(tmp_path / "state", driver=driver, clock=clock)
    assert passed(parts, parts.up(), "agent-1") == list(GATES)
    parts.prober.silent.add(SSH_1)
    parts.up()
    assert "to apply its seed: not within 300 s" in problem(parts)
    assert "cannot be read: it is locked" in problem(parts)


def test_the_lab_file_says_how_long_a_boot_may_take(make: Make) -> None:
    parts = make()
    parts.up(boot_limit_s=900)
    lab = parts.core.labs.get("demo")
    assert parts.core.boot_limit_s(lab) == 900
    parts.up(boot_limit_s=600)  # on a lab that stands, too
    assert parts.core.boot_limit_s(parts.core.labs.get("demo")) == 600
