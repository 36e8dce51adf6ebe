"""The driver `virtualbox` on a real VBoxManage and on the fake one, with an image that is empty.

A machine without a system boots as far as "no bootable medium": its power states are real.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from labcore.clock import SystemClock
from labcore.commands import Result
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.virtualbox.driver import VirtualBoxDriver, find_library
from server_manager.drivers.virtualbox.fake.__main__ import VARIABLE
from server_manager.drivers.virtualbox.fake.program import answer
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.vboxmanage import VBoxManage

IMAGE = "labctl-test-image"


class ClonedDriver(VirtualBoxDriver):
    """Clones all that it is asked for from one image, as `make_spec` names none."""

    image: str | None = None

    def create(self, spec: ServerSpec) -> None:
        """See Driver."""
        # An internal network starts only where there is a kernel driver.
        super().create(dataclasses.replace(spec, image=self.image, network="nat"))


@contextmanager
def cloned_driver(root: Path, library: Callable[[], Library]) -> Iterator[ClonedDriver]:
    """A driver with all that it makes below `root`; whatever a test leaves is a failure."""
    driver = ClonedDriver(
        lambda ref: root / "labs" / ref.lab / "nodes" / ref.name,
        image_directory=lambda name: root / "images" / name,
        clock=SystemClock(),
        library=library,
        stop_margin_s=1.0,
    )
    driver.image = make_image(root / "image", library())
    yield driver
    for lab in root.glob("labs/*"):
        for server in driver.servers(lab.name):
            driver.destroy(server.ref)
    assert remains(root / "labs", library()) == []
    library().vbox.change("unregistervm", driver.image, "--delete")
    assert remains(root, library()) == []


def make_image(folder: Path, library: Library) -> str:
    """A machine with an empty disk and a snapshot; its UUID."""
    folder.mkdir()
    change = library.vbox.change
    disk, name = str(folder / "disk.vdi"), f"{IMAGE}-{os.getpid()}"
    change("createmedium", "disk", "--filename", disk, "--size", "8")
    change(
        *("createvm", "--name", name, "--ostype", "Debian_64", "--basefolder", str(folder)),
        "--register",
    )
    change("storagectl", name, "--name", "SATA", "--add", "sata", "--portcount", "1")
    change(
        *("storageattach", name, "--storagectl", "SATA", "--port", "0", "--device", "0"),
        *("--type", "hdd", "--medium", disk),
    )
    change("modifyvm", name, "--natpf1", "old,tcp,127.0.0.1,29999,,22")
    change("snapshot", name, "take", "prepared")
    uuid = next(uuid for uuid, other in library.names().items() if other == name)
    library.mark(uuid, {"labctl/uuid": uuid, "labctl/image": "empty"})  # its clones inherit it
    return uuid


def remains(root: Path, library: Library) -> list[str]:
    """What VirtualBox still knows below a folder, and what files of machines are there."""
    machines = [m.settings for m in library.all() if Path(m.settings).is_relative_to(root)]
    media = [m.location for _, m in library.media() if Path(m.location).is_relative_to(root)]
    return [*machines, *media, *map(str, root.rglob("*.vbox")), *map(str, root.rglob("*.vdi"))]


def real_library(root: Path) -> Callable[[], Library]:
    """The VirtualBox of this machine, as PATH and the environment tell where it is."""
    environ = dict(os.environ)
    return find_library(environ.get("PATH", os.defpath), environ, root, SystemClock())


def fake_library(root: Path) -> Callable[[], Library]:
    """A fake VirtualBox of its own in `root`, in this process: a program's start takes longer than
    all that it does."""

    def run(argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str]) -> Result:
        return answer(argv[1:], world(root))

    vbox = VBoxManage("VBoxManage", lock=root / "vbox.lock", clock=SystemClock(), run=run)
    return lambda: Library(vbox)


def fake_program(root: Path) -> Path:
    """The fake as a program called VBoxManage, which knows what `fake_library` knows."""
    program = root / "bin" / "VBoxManage"
    program.parent.mkdir()
    module = "server_manager.drivers.virtualbox.fake"
    program.write_text(
        f'#!/bin/sh\n{VARIABLE}={world(root)} exec {sys.executable} -m {module} "$@"\n'
    )
    program.chmod(0o755)
    return program


def world(root: Path) -> Path:
    """Where the fake keeps what it knows."""
    return root / "world"
