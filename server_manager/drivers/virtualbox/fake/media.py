"""Commands of the fake about controllers, disks and discs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from server_manager.drivers.virtualbox.fake import printing
from server_manager.drivers.virtualbox.fake.machines import existing
from server_manager.drivers.virtualbox.fake.options import options
from server_manager.drivers.virtualbox.fake.printing import Refused
from server_manager.drivers.virtualbox.fake.world import EMPTY, Medium, World, new_uuid


def create(world: World, words: Sequence[str]) -> str:
    """`createmedium disk`."""
    file = Path(options(words[1:])["--filename"])
    if file.exists():
        raise Refused(f"Cannot create the storage unit '{file}' (VERR_ALREADY_EXISTS)")
    file.write_bytes(b"disk")
    return f"Medium created. UUID: {_known(world, 'disk', file).uuid}\n"


def _known(world: World, kind: str, file: Path) -> Medium:
    """The medium of a file, which is known from now on. Raises Refused."""
    if not file.exists():
        raise Refused(
            f"Could not find file for the medium '{file}' (VERR_FILE_NOT_FOUND)",
            "VBOX_E_FILE_ERROR (0x80bb0004)",
            "OpenMedium",
        )
    for medium in world.media.values():
        if medium.location == str(file):
            return medium
    medium = Medium(new_uuid(), kind, str(file))
    world.media[medium.uuid] = medium
    return medium


def controller(world: World, words: Sequence[str]) -> str:
    """`storagectl`."""
    machine, given = existing(world, words[0]), options(words[1:])
    if machine.is_on:
        raise printing.locked(machine, "LockMachine")
    machine.ports = int(given.get("--portcount", machine.ports or 1))
    return ""


def attach(world: World, words: Sequence[str]) -> str:
    """`storageattach`."""
    machine, given = existing(world, words[0]), options(words[1:])
    port, medium = given["--port"], given["--medium"]
    # A disc goes into a drive that is there also while the machine runs, but not while it is saved.
    has_drive = given["--type"] == "dvddrive" and port in machine.attached
    if machine.is_on and not has_drive:
        raise printing.locked(machine, "LockMachine")
    if machine.is_saved:
        raise Refused(
            "The machine is not mutable or running (state is Saved)",
            "VBOX_E_INVALID_VM_STATE (0x80bb0002)",
            "MountMedium",
        )
    if int(port) >= machine.ports:
        raise Refused(f"No storage device attached to device slot 0 on port {port}")
    kind = "disk" if given["--type"] == "hdd" else "dvd"
    if medium == "none":
        machine.attached.pop(port, None)
    elif medium == EMPTY:
        machine.attached[port] = EMPTY
    else:
        machine.attached[port] = _known(world, kind, Path(medium)).uuid
    return ""


def close(world: World, words: Sequence[str]) -> str:
    """`closemedium`: forget one that nobody uses, with --delete its file too."""
    medium = world.media.get(words[1])
    if medium is None:
        raise Refused(f"Could not find an open medium with UUID {words[1]}")
    if any(medium.uuid in machine.attached.values() for machine in world.machines.values()):
        raise Refused(f"Medium '{medium.location}' cannot be closed: it is still attached")
    if world.children(medium.uuid):
        raise Refused(f"Medium '{medium.location}' cannot be closed: it has child media")
    del world.media[medium.uuid]
    if "--delete" in words:
        Path(medium.location).unlink(missing_ok=True)
    return ""
