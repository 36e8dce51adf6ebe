"""Live images: a booted clone of an image, frozen while it waits for its seed.

image ── boot_live ──▶ a machine that boots and waits ── freeze_live ──▶ a snapshot with its memory

Linked clones of that snapshot come up *saved*: started, they go on where it was frozen, find their
own seed and become their own nodes. Nobody else's name, key or address was ever in that memory.
"""

from __future__ import annotations

from labcore.errors import Conflict, DriverFailed, NotFound
from labcore.files import tail
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerSpec
from server_manager.drivers.imaging import BuilderState, ImageBuild, ImageRef
from server_manager.drivers.virtualbox.builders import CONTROLLER
from server_manager.drivers.virtualbox.images import CONSOLE_LINES, SNAPSHOT, VirtualBoxImages
from server_manager.drivers.virtualbox.library import Library
from server_manager.drivers.virtualbox.machines import Machine
from server_manager.drivers.virtualbox.power import Power
from server_manager.drivers.virtualbox.settings import (
    GROUP,
    cpu_count,
    hardware_arguments,
    live_uuid,
)
from server_manager.drivers.virtualbox.states import meaning

WAITING = "labctl-seed: waiting for a seed"  # what a guest without one prints, booted
# After its memory was loaded virtio-net tells the guest for 5 s that its cable is out; in
# milliseconds, and the least it takes without a warning (VirtualBox's DevVirtioNet.cpp).
LINK_UP = {"VBoxInternal/Devices/virtio-net/0/Config/LinkUpDelay": "100"}


class VirtualBoxLive(VirtualBoxImages):
    """See LiveMaking. A mixin of the driver."""

    def boot_live(self, build: ImageBuild) -> None:
        """See LiveMaking."""
        library, folder = self._make_library(), self._folder(build.ref).live
        image = self._existing(library, build.ref)
        if image.snapshot is None:
            raise Conflict(f"image {build.ref.name} is not finished")
        self._clear_live(library, build.ref)
        machine = live_uuid(image.uuid)
        folder.path.mkdir(mode=0o700, exist_ok=True)
        library.vbox.change(
            *("clonevm", image.uuid, "--snapshot", image.snapshot, "--options", "link"),
            *("--uuid", machine, "--name", f"{image.name}-live"),
            *("--basefolder", str(folder.machines), "--register"),
        )
        library.vbox.change(
            *("modifyvm", machine, "--groups", f"{GROUP}/images"),
            *("--memory", str(build.memory_mib), "--cpus", str(build.cpus)),
            *hardware_arguments(folder.serial),
            *("--mac-address1", "auto", "--nat-localhostreachable1", "off", "--nic2", "none"),
        )
        library.attach(machine, image.controller or CONTROLLER, "emptydrive")
        library.mark(machine, LINK_UP)
        Power(library, self._clock).boot(self._live(library, build.ref), folder)

    def live(self, ref: ImageRef) -> BuilderState:
        """See LiveMaking."""
        library, folder = self._make_library(), self._folder(ref).live
        machine = library.find(live_uuid(ref.id))
        if machine is None:
            return BuilderState(PowerState.ABSENT)
        what, lines = meaning(machine.state), tail(folder.serial, CONSOLE_LINES)
        waits = any(WAITING in line for line in lines)
        return BuilderState(what.power, machine.problem or what.problem, lines, waits)

    def freeze_live(self, ref: ImageRef) -> None:
        """See LiveMaking."""
        library, folder = self._make_library(), self._folder(ref).live
        machine = self._live(library, ref)
        if machine.snapshot is None:
            if not self.live(ref).waits or machine.state != "running":
                raise Conflict(f"the live machine of image {ref.name} does not wait for a seed")
            # Or every clone would open this file, until it has its own.
            library.vbox.change("controlvm", machine.uuid, "changeuartmode1", "disconnected")
            library.vbox.change("snapshot", machine.uuid, "take", SNAPSHOT, "--live")
            machine = self._live(library, ref)
        if machine.snapshot is None:
            raise DriverFailed(f"{machine.name} has no snapshot, though one was taken")
        if meaning(machine.state).stop != "nothing":
            Power(library, self._clock).cut(machine)
        folder.serial.unlink(missing_ok=True)

    def _live(self, library: Library, ref: ImageRef) -> Machine:
        machine = library.find(live_uuid(ref.id))
        if machine is None:
            raise NotFound(f"image {ref.name} has no live machine")
        return machine


def live_source(library: Library, image: Machine, spec: ServerSpec) -> Machine | None:
    """The live machine of an image, if there is one of the size that a server wants.

    Neither memory nor CPUs of a saved machine can change, nor can it get another NIC.
    """
    if spec.network != "nat":
        return None
    found = library.find(live_uuid(image.uuid))
    if found is None or found.snapshot is None:
        return None
    size = (found.info.get("memory"), found.info.get("cpus"))
    return found if size == (str(spec.memory_mib), str(cpu_count(spec))) else None
