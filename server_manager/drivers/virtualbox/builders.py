"""The machine of an image: set up to boot anywhere, with nothing that its clones do not need."""

from __future__ import annotations

from pathlib import Path

from server_manager.drivers.imaging import ImageBuild, ImageRef
from server_manager.drivers.virtualbox.folder import Folder
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import EMPTY, Machine
from server_manager.drivers.virtualbox.settings import GROUP, LOOPBACK, UUID, hardware_arguments
from server_manager.images.disks import Boot

CONTROLLER = "SATA"
IMAGE = "labctl/image"
SSH_RULE = "ssh"
SSH_PORT = 22


class Builders:
    """Each call may be made again after a crash in any of its steps."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._vbox = library.vbox

    def make(self, build: ImageBuild, folder: Folder, disk: Path, boot: Boot) -> None:
        """A stopped machine with that disk, and with the first login's disc if there is one."""
        uuid, arm = build.ref.id, boot.arch == "arm64"
        self._vbox.change(
            *("createvm", "--name", machine_name(build.ref), "--uuid", uuid),
            *("--basefolder", str(folder.machines), "--register"),
            *("--ostype", "Debian_arm64" if arm else "Debian_64"),
            # VirtualBox 7.0 knows no other platform, and not the option either.
            *(("--platform-architecture", "arm") if arm else ()),
        )
        self._vbox.change("modifyvm", uuid, *machine_settings(build, folder.serial, boot))
        self._vbox.change(
            *("storagectl", uuid, "--name", CONTROLLER, "--add", "sata"),
            *("--controller", "IntelAhci", "--portcount", "2", "--bootable", "on"),
        )
        self._vbox.change(
            *("storageattach", uuid, "--storagectl", CONTROLLER, "--port", "0"),
            *("--device", "0", "--type", "hdd", "--medium", str(disk)),
        )
        if build.seed is not None:
            self._library.attach(uuid, CONTROLLER, str(build.seed))
        self._library.mark(uuid, {UUID: uuid, IMAGE: build.ref.name})

    def strip(self, machine: Machine) -> None:
        """Take away what only the build needed: the way in, and the disc that opened it."""
        if machine.rules:
            words = (word for rule in machine.rules for word in ("--natpf1", "delete", rule.name))
            self._vbox.change("modifyvm", machine.uuid, *words)
        disc = machine.disc
        if disc in (None, EMPTY):
            return
        self._library.attach(machine.uuid, CONTROLLER, "none")
        for kind, medium in self._library.media():
            if medium.location == disc:
                self._vbox.change("closemedium", kind, medium.uuid)


def machine_name(ref: ImageRef) -> str:
    """How VirtualBox's window calls it. Decides nothing."""
    return f"labctl-image-{ref.name}"


def machine_settings(build: ImageBuild, serial: Path, boot: Boot) -> tuple[str, ...]:
    """What `modifyvm` is told for a builder."""
    rule = f"{SSH_RULE},tcp,{LOOPBACK},{build.ssh_port},,{SSH_PORT}"
    return (
        *("--groups", f"{GROUP}/images"),
        *("--memory", str(build.memory_mib), "--cpus", str(build.cpus)),
        *("--firmware", "efi" if boot.firmware == "efi" else "bios"),
        *hardware_arguments(serial),
        *(("--natpf1", rule) if build.ssh_port else ()),
    )
