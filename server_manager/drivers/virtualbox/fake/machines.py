"""Commands of the fake that make, change and remove machines."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from server_manager.drivers.virtualbox.fake import printing
from server_manager.drivers.virtualbox.fake.options import options, pairs
from server_manager.drivers.virtualbox.fake.printing import Refused
from server_manager.drivers.virtualbox.fake.world import EMPTY, Machine, Medium, World, new_uuid

NEW = {
    "memory": "1024",
    "cpus": "1",
    "nic1": '"nat"',
    "nictype1": '"82540EM"',
    "macaddress1": '"0800279DF192"',
    "localhostReachable": '"1"',
    "nic2": '"none"',
    "uart1": '"off"',
}
LEAST_MIB, MOST_MIB = 4, 2_097_152
# What is stored under another name than that of its option.
STORED_AS = {
    "--memory": "memory",
    "--cpus": "cpus",
    "--nic1": "nic1",
    "--nic2": "nic2",
    "--nic-type1": "nictype1",
    "--nic-type2": "nictype2",
    "--intnet2": "intnet2",
    "--mac-address1": "macaddress1",
    "--mac-address2": "macaddress2",
    "--uart1": "uart1",
    "--uart-mode1": "uartmode1",
}
# As tried with 7.2.22.
CHANGED_WHILE_SAVED = ("--groups", "--uart-mode1", "--natpf1", "--nat-localhostreachable1")
PLAIN = ("memory", "cpus")  # told without quotes


def existing(world: World, name: str, where: str = "LockMachine") -> Machine:
    """A machine that can be worked with. Raises Refused."""
    machine = world.find(name)
    if machine is None:
        raise printing.no_machine(name)
    if not machine.file.exists():
        raise printing.inaccessible(where)
    return machine


def create(world: World, words: Sequence[str]) -> str:
    """`createvm`."""
    given = options(words)
    folder = Path(given["--basefolder"]) / given["--name"]
    machine = Machine(given.get("--uuid") or new_uuid(), given["--name"], str(folder))
    machine.settings = dict(NEW)
    _register(world, machine)
    return (
        f"Virtual machine '{machine.name}' is created and registered.\n"
        f"UUID: {machine.uuid}\nSettings file: '{machine.file}'\n"
    )


def _register(world: World, machine: Machine) -> None:
    if machine.file.exists():
        raise printing.settings_exist(machine.file)
    machine.file.parent.mkdir(parents=True, exist_ok=True)
    machine.file.write_text("<VirtualBox/>\n")
    if machine.uuid in world.machines:
        # Too late: the files are there, as with the real one.
        raise Refused(
            f"Registered machine with UUID {{{machine.uuid}}} already exists",
            "NS_ERROR_INVALID_ARG (0x80070057)",
            "RegisterMachine",
        )
    world.machines[machine.uuid] = machine


def clone(world: World, words: Sequence[str]) -> str:
    """`clonevm … --options link`: its --groups moves the folder, and sets no group."""
    source, given = existing(world, words[0]), options(words[1:])
    snapshot = next((s for s in source.snapshots if given.get("--snapshot") in s), None)
    if snapshot is None:
        raise Refused(
            f"Could not find a snapshot named '{given.get('--snapshot')}'",
            "VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)",
            "FindSnapshot",
        )
    folder = Path(given["--basefolder"], given.get("--groups", "").strip("/"), given["--name"])
    made = Machine(
        given.get("--uuid") or new_uuid(),
        given["--name"],
        str(folder),
        settings=dict(source.settings),
        rules=dict(source.rules),
        extradata=dict(source.extradata),
        ports=source.ports,
    )
    if made.file.exists():
        raise printing.settings_exist(made.file)
    if snapshot[2]:
        made.state = "saved"
        made.settings["macaddress1"] = '"080027C10DE5"'  # it gets another, its guest keeps the old
        made.attached.update({port: EMPTY for port in source.attached if port != "0"})
    parent = world.media[source.attached["0"]].parent or source.attached["0"]
    disk = _differencing(world, folder, parent)
    made.attached["0"] = disk.uuid
    _register(world, made)
    return f'Machine has been successfully cloned as "{made.name}"\n'


def _differencing(world: World, folder: Path, parent: str) -> Medium:
    uuid = new_uuid()
    file = folder / "Snapshots" / f"{{{uuid}}}.vdi"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"differencing")
    world.media[uuid] = Medium(uuid, "disk", str(file), parent)
    return world.media[uuid]


def snapshot(world: World, words: Sequence[str]) -> str:
    """`snapshot NAME take SNAPSHOT [--live]`: the disk is kept, and a new one is written to; of a
    machine that runs, the memory too."""
    machine, (_, name, *_) = existing(world, words[0]), words[1:]
    machine.snapshots.append([new_uuid(), name, "live" if machine.is_on else ""])
    if "0" in machine.attached:
        disk = _differencing(world, Path(machine.folder), machine.attached["0"])
        machine.attached["0"] = disk.uuid
    return f"Snapshot taken. UUID: {machine.snapshots[-1][0]}\n"


def modify(world: World, words: Sequence[str]) -> str:
    """`modifyvm`: a port beyond 65535 is stored as another, silently."""
    machine = existing(world, words[0])
    if machine.is_on:
        raise printing.locked(machine, "LockMachine")
    for option, value in pairs(words[1:]):
        if machine.is_saved and option not in CHANGED_WHILE_SAVED:
            raise Refused(
                "The machine is not mutable (state is Saved)",
                "VBOX_E_INVALID_VM_STATE (0x80bb0002)",
                "COMSETTER",
            )
        if option == "--nic9":
            raise Refused("Invalid NIC number 9", returncode=0)
        _set(world, machine, option, value)
    return ""


def _set(world: World, machine: Machine, option: str, value: str) -> None:
    if option == "--memory" and not LEAST_MIB <= int(value) <= MOST_MIB:
        raise Refused(
            f"Invalid RAM size: {value} MB (must be in range [{LEAST_MIB}, {MOST_MIB}] MB)",
            "NS_ERROR_INVALID_ARG (0x80070057)",
            "COMSETTER",
        )
    if option == "--groups":
        _move(world, machine, value)
    elif option == "--natpf1":
        forward(machine, value)
    elif option == "--nat-localhostreachable1":
        machine.settings["localhostReachable"] = f'"{int(value == "on")}"'
    elif option in STORED_AS and value != "auto":
        key = STORED_AS[option]
        machine.settings[key] = value if key in PLAIN else f'"{value}"'


def _move(world: World, machine: Machine, groups: str) -> None:
    """The folder of a machine moves with its group."""
    old, base = Path(machine.folder), Path(machine.folder).parent
    new = base / groups.strip("/") / machine.name
    machine.groups = groups
    if new == old:
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(old, new)
    machine.folder = str(new)
    for medium in world.media.values():
        if Path(medium.location).is_relative_to(old):
            medium.location = str(new / Path(medium.location).relative_to(old))


def forward(machine: Machine, value: str) -> None:
    """Add or delete a port forward. Raises Refused."""
    name, _, rest = value.partition(",")
    if name == "delete":
        if rest not in machine.rules:
            raise Refused("Code NS_ERROR_INVALID_ARG (0x80070057)", where="RemoveRedirect")
        del machine.rules[rest]
        return
    if name in machine.rules:
        raise Refused("A NAT rule of this name already exists", where="AddRedirect")
    parts = rest.split(",")
    if len(parts) != 5:
        raise Refused("Missing or invalid argument to 'natpf1'.", returncode=2)
    parts[2] = str(int(parts[2]) % 65536)
    machine.rules[name] = ",".join(parts)


def unregister(world: World, words: Sequence[str]) -> str:
    """`unregistervm`: with --delete the disks go, unless others need one; then the folder stays."""
    machine = world.find(words[0])
    if machine is None:
        raise printing.no_machine(words[0])
    if machine.is_on:
        raise printing.locked(machine, "Unregister")
    was_accessible = machine.file.exists()
    del world.machines[machine.uuid]
    if "--delete" in words[1:]:
        if not was_accessible:
            raise Refused("The object is not ready", "E_ACCESSDENIED (0x80070005)", "DeleteConfig")
        _delete(world, machine)
    return ""


def _delete(world: World, machine: Machine) -> None:
    medium = world.media.get(machine.attached.get("0", ""))
    while medium is not None and not world.children(medium.uuid):
        if _is_used(world, medium):
            break
        Path(medium.location).unlink(missing_ok=True)
        del world.media[medium.uuid]
        medium = world.media.get(medium.parent)
    if medium is not None and Path(medium.location).is_relative_to(machine.folder):
        return  # a disk that another needs: the folder stays, with the settings file
    machine.file.unlink(missing_ok=True)
    shutil.rmtree(Path(machine.folder) / "Logs", ignore_errors=True)
    for folder in (Path(machine.folder) / "Snapshots", Path(machine.folder)):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _is_used(world: World, medium: Medium) -> bool:
    return any(medium.uuid in m.attached.values() for m in world.machines.values())
