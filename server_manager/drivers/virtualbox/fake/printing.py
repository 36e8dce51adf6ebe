"""What the fake prints: the words of VirtualBox 7.2.22."""

from __future__ import annotations

from pathlib import Path

from server_manager.drivers.virtualbox.fake.world import CONTROLLER, Machine, Medium, World

VERSION = "7.2.22r175245"
SINCE = "2026-11-20T15:23:34.747000000"
LONG = {"poweroff": "powered off", "gurumeditation": "guru meditation"}
# Before any answer, on stdout, as a distribution's start script does it.
WARNING = """WARNING: The character device /dev/vboxdrv does not exist.
\t Please install the virtualbox-dkms package and the appropriate
\t headers, most likely linux-headers-amd64.

\t You will not be able to start VMs until this problem is fixed.
"""


class Refused(Exception):
    """VirtualBox says no: what it prints on stderr, and its exit code."""

    def __init__(self, text: str, code: str = "", where: str = "", *, returncode: int = 1) -> None:
        lines = [text]
        if code:
            lines.append(f"Details: code {code}, component MachineWrap, interface IMachine")
        if where:
            lines.append(f'Context: "{where}(…)" at line 1 of file VBoxManage.cpp')
        super().__init__("".join(f"VBoxManage: error: {line}\n" for line in lines))
        self.returncode = returncode


def no_machine(name: str) -> Refused:
    """There is none of that name."""
    return Refused(
        f"Could not find a registered machine named '{name}'",
        "VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)",
        "FindMachine",
    )


def locked(machine: Machine, where: str) -> Refused:
    """A session has it."""
    by = "by" if where == "LaunchVMProcess" else "for"
    text = f"The machine '{machine.name}' is already locked {by} a session (or being unlocked)"
    if where == "Unregister":
        text = f"Cannot unregister the machine '{machine.name}' while it is locked"
    return Refused(text, "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", where)


def not_running(machine: Machine) -> Refused:
    """It is off."""
    return Refused(f"Machine '{machine.name}' is not currently running.")


def inaccessible(where: str) -> Refused:
    """Its settings file is gone."""
    return Refused("The object functionality is limited", "E_ACCESSDENIED (0x80070005)", where)


def settings_exist(file: Path) -> Refused:
    """A machine was there, or is."""
    return Refused(
        f"Machine settings file '{file}' already exists",
        "VBOX_E_FILE_ERROR (0x80bb0004)",
        "CreateMachine",
    )


def info(world: World, machine: Machine) -> str:
    """`showvminfo --machinereadable`."""
    folder = Path(machine.folder)
    lines = [
        f'name="{machine.name}"',
        'encryption="disabled"',
        f'groups="{machine.groups}"',
        'platformArchitecture="x86"',
        'ostype="Debian (64-bit)"',
        f'UUID="{machine.uuid}"',
        f'CfgFile="{machine.file}"',
        f'SnapFldr="{folder / "Snapshots"}"',
        f'LogFldr="{folder / "Logs"}"',
        f'hardwareuuid="{machine.uuid}"',
        *(f"{key}={value}" for key, value in machine.settings.items()),
        f'VMState="{machine.state}"',
        f'VMStateChangeTime="{SINCE}"',
        *_storage(world, machine),
        *(f'Forwarding({n})="{name},{rest}"' for n, (name, rest) in _rules(machine)),
        *(['VideoMode="720,400,0"@0,0 1', "VRDEClients==0"] if machine.is_on else []),
        " rec_screen0",
        *_snapshots(machine),
        "GuestMemoryBalloon=0",
    ]
    return "\n".join(lines) + "\n"


def _storage(world: World, machine: Machine) -> list[str]:
    if not machine.ports:
        return []
    lines = [
        f'storagecontrollername0="{CONTROLLER}"',
        'storagecontrollertype0="IntelAhci"',
        f'storagecontrollerportcount0="{machine.ports}"',
    ]
    for port in map(str, range(machine.ports)):
        attached = machine.attached.get(port, "none")
        medium = world.media.get(attached)
        lines.append(f'"{CONTROLLER}-{port}-0"="{medium.location if medium else attached}"')
        if medium:
            lines.append(f'"{CONTROLLER}-ImageUUID-{port}-0"="{medium.uuid}"')
    return lines


def _rules(machine: Machine) -> enumerate[tuple[str, str]]:
    return enumerate(sorted(machine.rules.items()))


def _snapshots(machine: Machine) -> list[str]:
    lines = []
    for depth, (uuid, name, _) in enumerate(machine.snapshots):
        suffix = "-1" * depth
        lines += [f'SnapshotName{suffix}="{name}"', f'SnapshotUUID{suffix}="{uuid}"']
    if machine.snapshots:
        uuid, name, _ = machine.snapshots[-1]
        lines += [f'CurrentSnapshotName="{name}"', f'CurrentSnapshotUUID="{uuid}"']
    return lines


def long_list(world: World) -> str:
    """`list --long vms`."""
    return "".join(_long(machine) for machine in world.machines.values())


def _long(machine: Machine) -> str:
    if not machine.file.exists():
        return (
            f"Name:            <inaccessible!>\nUUID:            {machine.uuid}\n"
            f"Config file:     {machine.file}\nEncryption:     disabled\n"
            "Access error details:\n\n"
        )
    state = LONG.get(machine.state, machine.state)
    return (
        f"Name:                        {machine.name}\n"
        f"Encryption:                  disabled\n"
        f"Groups:                      {machine.groups}\n"
        f"UUID:                        {machine.uuid}\n"
        f"Config file:                 {machine.file}\n"
        f"Log folder:                  {Path(machine.folder) / 'Logs'}\n"
        f"State:                       {state} (since {SINCE})\n"
        "Shared folders:              <none>\n"
        "* Guest:\nConfigured memory balloon:   0MB\n\n"
    )


def short_list(world: World) -> str:
    """`list vms`."""
    return "".join(
        f'"{m.name if m.file.exists() else "<inaccessible>"}" {{{m.uuid}}}\n'
        for m in world.machines.values()
    )


def media(world: World, kind: str) -> str:
    """`list hdds` or `list dvds`."""
    return "".join(_medium(m) for m in world.media.values() if m.kind == kind)


def _medium(medium: Medium) -> str:
    parent = f"Parent UUID:    {medium.parent or 'base'}\n" if medium.kind == "disk" else ""
    return (
        f"UUID:           {medium.uuid}\n{parent}State:          created\n"
        f"Location:       {medium.location}\nStorage format: VDI\n\n"
    )
