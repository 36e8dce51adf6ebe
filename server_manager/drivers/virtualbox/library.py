"""VirtualBox's machines and media, asked and changed by UUID; nothing is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labcore.errors import Conflict, DriverFailed, TimedOut
from server_manager.drivers.virtualbox.bindings import Bindings
from server_manager.drivers.virtualbox.folder import Folder
from server_manager.drivers.virtualbox.machines import (
    DRIVE_PORT,
    Machine,
    Medium,
    parse_extradata,
    parse_info,
    parse_long_list,
    parse_media,
    parse_short_list,
)
from server_manager.drivers.virtualbox.vboxmanage import Inaccessible, NoSuchMachine, VBoxManage


class Library:
    """Thin: each call is one or two of VBoxManage's. With `bindings` a look at all is quicker."""

    def __init__(self, vbox: VBoxManage, bindings: Bindings | None = None) -> None:
        self.vbox = vbox
        self._bindings = bindings

    def find(self, uuid: str) -> Machine | None:
        """A machine now; None if VirtualBox positively knows none."""
        try:
            return parse_info(self.vbox.read("showvminfo", uuid, "--machinereadable"))
        except NoSuchMachine:
            return None
        except Inaccessible:
            return next((m for m in self.all() if m.uuid == uuid), None)
        except ValueError as error:
            raise DriverFailed(f"cannot understand VBoxManage: {error}") from error

    def all(self) -> tuple[Machine, ...]:
        """Every machine of this user, in one call, without `info`."""
        found = self._bindings.machines() if self._bindings else None
        if found is not None:
            return found
        return parse_long_list(self.vbox.read("list", "--long", "vms", partial=True))

    def names(self) -> Mapping[str, str]:
        """UUID to name of every machine."""
        return parse_short_list(self.vbox.read("list", "vms", partial=True))

    def extradata(self, uuid: str) -> Mapping[str, str]:
        """What was noted with a machine."""
        return parse_extradata(self.vbox.read("getextradata", uuid, "enumerate"))

    def mark(self, uuid: str, marks: Mapping[str, str]) -> None:
        """Note it with a machine."""
        for key, value in marks.items():
            self.vbox.change("setextradata", uuid, key, value)

    def unmark(self, uuid: str, keys: Iterable[str]) -> None:
        """Take notes off a machine; not there: nothing."""
        for key in keys:
            self.vbox.change("setextradata", uuid, key)

    def attach(self, uuid: str, controller: str, medium: str) -> None:
        """Put a disc into the drive of a machine: a file, `emptydrive`, or `none` for no drive."""
        self.vbox.change(
            *("storageattach", uuid, "--storagectl", controller, "--port", DRIVE_PORT),
            *("--device", "0", "--type", "dvddrive", "--medium", medium),
        )

    def unregister(self, machine: Machine) -> None:
        """Forget a machine that is off, with its disks; gone already: nothing."""
        try:
            self.vbox.change("unregistervm", machine.uuid, "--delete")
        except NoSuchMachine:
            return
        except (DriverFailed, TimedOut):
            # An inaccessible one is forgotten with an error; a call that was killed may be done.
            if machine.uuid in self.names():
                raise

    def media(self) -> tuple[tuple[str, Medium], ...]:
        """All media, each behind what `closemedium` calls its kind."""
        return tuple(
            (kind, medium)
            for kind, name in (("disk", "hdds"), ("dvd", "dvds"))
            for medium in parse_media(self.vbox.read("list", name, partial=True))
        )

    def check_childless(self, folder: Folder) -> None:
        """Raise Conflict if disks that lie elsewhere need one in this folder."""
        media = [medium for kind, medium in self.media() if kind == "disk"]
        inside = {medium.uuid for medium in media if folder.contains(medium.location)}
        needing = [m for m in media if m.parent in inside and m.uuid not in inside]
        if needing:
            raise Conflict(
                f"{folder.path} holds disks that other machines are clones of",
                "remove those machines first",
                tuple(medium.location for medium in needing),
            )

    def close_media(self, folder: Folder) -> None:
        """Forget every medium in a folder: what unregistering leaves, and what a crash left."""
        inside = [(k, m) for k, m in self.media() if folder.contains(m.location)]
        for kind, medium in _leaves_first(inside):
            self.vbox.change("closemedium", kind, medium.uuid)


def _leaves_first(media: Iterable[tuple[str, Medium]]) -> list[tuple[str, Medium]]:
    """Every medium after those that have it as their parent."""
    left, ordered = list(media), []
    while left:
        parents = {medium.parent for _, medium in left}
        leaves = [pair for pair in left if pair[1].uuid not in parents] or left
        ordered += leaves
        left = [pair for pair in left if pair not in leaves]
    return ordered
