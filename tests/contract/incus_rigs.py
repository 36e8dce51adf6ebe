"""The driver `incus` on a real Incus and on the fake one."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labcore.clock import Clock, SystemClock
from labcore.commands import run
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.incus.carriers import Tunnel
from server_manager.drivers.incus.client import Incus, Run
from server_manager.drivers.incus.driver import IncusDriver
from server_manager.drivers.incus.forwarder import Way
from server_manager.drivers.incus.network import Interface
from server_manager.drivers.incus.records import Records
from server_manager.drivers.incus.settings import IncusSettings
from server_manager.drivers.incus.ways import Ways
from server_manager.paths import StatePaths
from tests.drivers.incus.fake_incus import FakeIncus

IMAGE = "labguest"  # Debian 12 with systemd, as Incus or a contributor has it
LABS = ("contract", "other")


class ImagedDriver(IncusDriver):
    """Makes all that it is asked for from one image, as `make_spec` names none."""

    def create(self, spec: ServerSpec) -> None:
        """See Driver."""
        super().create(dataclasses.replace(spec, image=IMAGE))


@contextmanager
def imaged_driver(
    root: Path, clock: Clock, incus: Incus, ways: type[Ways] = Ways
) -> Iterator[ImagedDriver]:
    """A driver; whatever a test leaves is removed, and no forwarder may be left then."""
    records = Records(lambda ref: root / "labs" / ref.lab / "nodes" / ref.name)
    keys = StatePaths(root).ssh
    driver = ImagedDriver(incus, ways(root / "ways", clock), records, clock, keys)
    try:
        yield driver
    finally:
        for lab in LABS:
            for server in driver.servers(lab):
                driver.destroy(server.ref)
    assert not list((root / "ways").glob("*.json"))
    assert not list(root.glob("labs/*/nodes/*"))


def real_incus(settings: IncusSettings | None = None) -> Incus:
    """The Incus of this machine."""
    return _incus(os.environ.get("PATH", os.defpath), run, settings)


def fake_incus(root: Path, fake: FakeIncus, settings: IncusSettings | None = None) -> Incus:
    """One that lives in memory."""
    program = root / "bin" / "incus"
    program.parent.mkdir(exist_ok=True)
    shutil.copy("/bin/true", program)
    return _incus(str(program.parent), fake, settings, root / "home")


def _incus(
    search_path: str, run: Run, settings: IncusSettings | None, home_file: Path | None = None
) -> Incus:
    return Incus(
        settings or IncusSettings(),
        search_path=search_path,
        environ={},
        run=run,
        home_file=home_file,
    )


class NoWays(Ways):
    """Leads nowhere: containers in memory have nothing to lead to."""

    def own_address(self, subnet: Interface) -> str | None:
        """See Ways."""
        return str(subnet.ip + 1 if subnet.ip == subnet.network.network_address else subnet.ip)

    def follow(
        self, lab: str, ways: tuple[Way, ...] = (), tunnels: tuple[Tunnel, ...] = ()
    ) -> None:
        """See Ways."""


@contextmanager
def fake_driver(root: Path, clock: Clock, fake: FakeIncus) -> Iterator[ImagedDriver]:
    with imaged_driver(root, clock, fake_incus(root, fake), NoWays) as driver:
        yield driver


@contextmanager
def real_driver(root: Path) -> Iterator[ImagedDriver]:
    with imaged_driver(root, SystemClock(), real_incus()) as driver:
        yield driver
