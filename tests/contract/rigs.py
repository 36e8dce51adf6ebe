"""What the driver contract is run against: one rig for each driver."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

from labcore.clock import Clock, FakeClock, SystemClock
from labcore.services import Service
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.base import (
    ConsoleLog,
    Driver,
    DriverServer,
    Forward,
    ServerRef,
    ServerSpec,
    SshIdentity,
)
from server_manager.drivers.fake import FakeDriver
from server_manager.drivers.local.driver import LocalDriver
from server_manager.drivers.local.plan import MARK
from tests.contract.incus_rigs import fake_driver, real_driver
from tests.contract.virtualbox_rigs import cloned_driver, fake_library, real_library
from tests.drivers.incus.fake_incus import FakeIncus

SLEEPER = Service("sleeper", ("sh", "-c", "echo up $LABCTL_NODE; exec sleep 3600"), port=5000)
LAB = "contract"
# Of no use but to be carried: whoever needs real keys makes them.
SSH = SshIdentity("a private key", "ssh-ed25519 AAAA host", ("ssh-ed25519 AAAA user",))


@dataclass(frozen=True)
class Rig:
    """A driver, and what a test must know to use it without knowing which one it is."""

    driver: Driver
    clock: Clock
    note_log: Callable[[ServerRef, str], None]  # brings "up <node>" into the sleeper's log

    def wait_for(self, ref: ServerRef, state: PowerState) -> DriverServer:
        def reached() -> DriverServer:
            server = self.driver.get(ref)
            if server.state is not state:
                raise NotYet(f"{server.state}: {server.problem}")
            return server

        return wait_until(
            reached, name=f"{ref.name} is {state}", limit_s=20, clock=self.clock, interval_s=0.01
        )

    def wait_for_line(self, ref: ServerRef, source: str, line: str) -> None:
        def printed() -> None:
            lines = cast(ConsoleLog, self.driver).console_log(ref, source, 50)
            if line not in lines:
                raise NotYet(str(lines))

        wait_until(printed, name=f"{line!r} in the log", limit_s=20, clock=self.clock)

    def running(self, spec: ServerSpec) -> ServerRef:
        self.driver.create(spec)
        self.driver.start(spec.ref)
        self.wait_for(spec.ref, PowerState.RUNNING)
        return spec.ref


def make_spec(
    name: str = "agent-1",
    *,
    lab: str = LAB,
    identity: str = "",
    services: tuple[Service, ...] = (SLEEPER,),
    host_port: int = 18001,
    secrets: dict[str, str] | None = None,
) -> ServerSpec:
    """A small server; tests on one machine share its id space, so the id names the process."""
    return ServerSpec(
        ref=ServerRef(lab, name, identity or f"{lab}-{name}-{os.getpid()}"),
        group="agent",
        role="agent",
        region="local",
        cpus=0.5,
        memory_mib=128,
        services=services,
        forwards=(Forward(services[0].name, host_port, 5000), Forward("ssh", host_port + 1000, 22)),
        secrets={"agent-token": "t0p"} if secrets is None else secrets,
        ssh=SSH,
    )


@contextmanager
def fake_rig(_: Path) -> Iterator[Rig]:
    clock = FakeClock()
    driver = FakeDriver(clock, boot_s=3.0)
    yield Rig(
        driver,
        clock,
        lambda ref, line: driver.print_line(ref.lab, ref.name, "sleeper", line),
    )


@contextmanager
def local_rig(root: Path) -> Iterator[Rig]:
    """The local driver in `root`; whatever a test leaves running is killed and is a failure."""
    driver = make_local(root)
    yield Rig(driver, SystemClock(), lambda ref, line: None)
    for lab in sorted(entry.name for entry in root.iterdir()):
        for server in driver.servers(lab):
            driver.destroy(server.ref)
    left = marked(lambda mark: mark.endswith(f"-{os.getpid()}"))
    for process in left:
        process.kill()
    assert left == []


def make_local(root: Path) -> LocalDriver:
    return LocalDriver(
        lambda ref: root / ref.lab / "nodes" / ref.name,
        clock=SystemClock(),
        search_path=os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin")),
    )


def marked(is_wanted: Callable[[str], bool]) -> list[psutil.Process]:
    """Living processes whose mark is wanted. nginx has no mark: see test_local_nginx."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK)
            if mark and is_wanted(mark) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def real_virtualbox_rig(root: Path) -> Iterator[Rig]:
    with cloned_driver(root, real_library(root)) as driver:
        yield Rig(driver, SystemClock(), lambda ref, line: None)


@contextmanager
def fake_virtualbox_rig(root: Path) -> Iterator[Rig]:
    with cloned_driver(root, fake_library(root)) as driver:
        yield Rig(driver, SystemClock(), lambda ref, line: None)


@contextmanager
def fake_incus_rig(root: Path) -> Iterator[Rig]:
    clock = FakeClock()
    with fake_driver(root, clock, FakeIncus()) as driver:
        yield Rig(driver, clock, lambda ref, line: None)


@contextmanager
def real_incus_rig(root: Path) -> Iterator[Rig]:
    with real_driver(root) as driver:
        yield Rig(driver, SystemClock(), lambda ref, line: None)


RIGS = {
    "fake": fake_rig,
    "local": local_rig,
    "virtualbox-fake": fake_virtualbox_rig,
    "virtualbox": real_virtualbox_rig,
    "incus-fake": fake_incus_rig,
    "incus": real_incus_rig,
}
