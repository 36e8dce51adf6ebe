"""Makes the machine of a server from its image, and removes it without a trace."""

from __future__ import annotations

from collections.abc import Mapping

from labcore.errors import Conflict, DriverFailed, NotFound, TimedOut
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.virtualbox import settings
from server_manager.drivers.virtualbox.builders import CONTROLLER
from server_manager.drivers.virtualbox.folder import Folder
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.live import live_source
from server_manager.drivers.virtualbox.machines import Machine


class Clones:
    """Each call may be made again after a crash in any of its steps."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._vbox = library.vbox

    def make(self, spec: ServerSpec, uuid: str, folder: Folder) -> None:
        """A machine that is off, set up and marked. There is none yet, and nothing of one.

        Where its image has a live machine of its size it is saved, and its drive empty: a disc
        goes in only while it runs.

        Raises NotFound if its image is gone, DriverFailed if VirtualBox stored other values.
        """
        image = self._image(spec)
        live = live_source(self._library, image, spec)
        source = live or image
        try:
            self._vbox.change(
                *("clonevm", source.uuid, "--snapshot", source.snapshot or ""),
                *("--options", "link", "--uuid", uuid, "--name", settings.machine_name(spec.ref)),
                *("--basefolder", str(folder.machines), "--register"),
            )
        except TimedOut:
            if self._library.find(uuid) is None:
                raise
        clone = self._existing(uuid)
        # clonevm has a --groups too, which moves the folder and sets no group.
        tell = settings.saved_arguments if live else settings.modify_arguments
        self._vbox.change("modifyvm", uuid, *tell(spec, folder.serial, clone.rules))
        if live is None:
            self._add_drive(clone)
            self.insert(clone, folder)
        self._check(spec, folder, self._existing(uuid))
        marks = settings.marks(spec, uuid)
        self._library.mark(uuid, marks)
        found = self._library.extradata(uuid)
        _compare(clone, marks, {key: found.get(key, "") for key in marks})

    def _add_drive(self, clone: Machine) -> None:
        if int(clone.info.get("storagecontrollerportcount0", "0")) < 2:
            controller = clone.controller or CONTROLLER
            self._vbox.change("storagectl", clone.uuid, "--name", controller, "--portcount", "2")

    def insert(self, machine: Machine, folder: Folder) -> None:
        """Put its seed into the drive of a machine that is off or runs."""
        self._library.attach(machine.uuid, machine.controller or CONTROLLER, str(folder.seed))

    def forward(self, machine: Machine, spec: ServerSpec) -> None:
        """Give a stopped machine the forwards of its spec; it has them already: nothing."""
        wanted = settings.rules(spec.forwards)
        arguments = settings.rule_arguments(machine.rules, wanted)
        if not arguments:
            return
        self._vbox.change("modifyvm", machine.uuid, *arguments)
        self._check_rules(spec, self._existing(machine.uuid))

    def remove(self, machine: Machine | None, folder: Folder) -> None:
        """Forget a machine that is off, with all of its media and files."""
        self._library.check_childless(folder)
        if machine is not None:
            self._library.unregister(machine)
        self._library.close_media(folder)
        folder.clear()

    def _image(self, spec: ServerSpec) -> Machine:
        image = self._library.find(spec.image) if spec.image else None
        if image is None:
            raise NotFound(f"there is no image for {spec.ref.name}", "labctl image build makes one")
        if image.snapshot is None:
            raise DriverFailed(
                f"image {image.name} has no snapshot to clone", "labctl image build makes it anew"
            )
        return image

    def _existing(self, uuid: str) -> Machine:
        machine = self._library.find(uuid)
        if machine is None:
            raise DriverFailed(
                f"machine {uuid} vanished while it was made", "somebody removed it: try again"
            )
        return machine

    def _check(self, spec: ServerSpec, folder: Folder, machine: Machine) -> None:
        wanted = settings.stored(spec, folder.serial)
        _compare(machine, wanted, {key: machine.info.get(key, "") for key in wanted})
        self._check_rules(spec, machine)

    def _check_rules(self, spec: ServerSpec, machine: Machine) -> None:
        wanted = {rule.name: str(rule) for rule in settings.rules(spec.forwards)}
        _compare(machine, wanted, {rule.name: str(rule) for rule in machine.rules})


def _compare(machine: Machine, wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    wrong = tuple(
        f"{key}: wanted {wanted.get(key, 'nothing')}, stored {found.get(key, 'nothing')}"
        for key in sorted({*wanted, *found})
        if wanted.get(key) != found.get(key)
    )
    if wrong:
        raise DriverFailed(
            f"VirtualBox stored other settings for {machine.name} than it was told: {wrong[0]}",
            "use values that VirtualBox takes",
            wrong,
        )


def check_name_is_free(names: Mapping[str, str], spec: ServerSpec, uuid: str) -> None:
    """Raise Conflict if a machine that is not ours has the name: people could not tell them apart.

    VirtualBox itself allows it as long as the folders differ.
    """
    name = settings.machine_name(spec.ref)
    others = [other for other, its_name in names.items() if its_name == name and other != uuid]
    if others:
        raise Conflict(
            f"a virtual machine {name} exists that is not labctl's, or is of another labctl",
            f"rename it (VBoxManage modifyvm {others[0]} --name …), or name the lab otherwise",
        )
