"""A server-manager in one thread: fake driver, fake prober, fake clock, real files."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path

from labcore.clock import Clock, FakeClock
from server_manager.core import Core, Drivers, make_core
from server_manager.drivers.fake import FakeDriver
from server_manager.executors import Executor, Inline
from server_manager.manager import Manager
from server_manager.paths import StatePaths
from server_manager.probes import FakeProber

LAB = {"lab": "demo", "driver": "fake"}


@dataclass
class Parts:
    manager: Manager
    driver: FakeDriver
    prober: FakeProber
    clock: Clock
    busy_ports: set[int]  # what other programs listen on

    @property
    def core(self) -> Core:
        return self.manager.core

    def up(self, lab: str = "demo", **fields: object) -> int:
        return self.manager.put(lab, {**LAB, "lab": lab, **fields})

    def states(self, lab: str = "demo") -> dict[str, str]:
        return {s.name: str(s.state) for s in self.manager.lab(lab).servers}

    def wanted(self, lab: str = "demo") -> dict[str, str]:
        return {s.name: str(s.wanted) for s in self.manager.lab(lab).servers}

    def count(self, lab: str = "demo", group: str = "agent") -> int:
        found = self.manager.lab(lab).group(group)
        assert found is not None
        return found.desired_count

    def made(self, *operations: str) -> list[tuple[str, str]]:
        """The calls of these kinds that the driver got, in order."""
        return [(c.operation, c.node) for c in self.driver.calls if c.operation in operations]

    def ends(self, lab: str = "demo") -> list[str]:
        """How the runs of a lab ended."""
        events = self.core.events.after(0, lab, 100_000)
        states = [str(e.data["state"]) for e in events if e.kind == "lab"]
        return [state for state in states if state != "converging"]


def make_parts(
    root: Path,
    *,
    driver: FakeDriver | None = None,
    executor: Executor | None = None,
    clock: Clock | None = None,
) -> Parts:
    clock = clock or FakeClock()
    driver = driver or FakeDriver(clock)
    prober = FakeProber()
    busy: set[int] = set()  # the ports of this machine are nobody's business here
    core = make_core(
        StatePaths(root),
        Drivers(("fake",), lambda name, settings: driver),
        prober,
        clock,
        executor or Inline(),
        is_free=lambda port: port not in busy,
    )
    parts = Parts(Manager(core), driver, prober, clock, busy)
    # Python 3.13 warns about a connection that nobody closed.
    weakref.finalize(parts, core.database.close)
    return parts
