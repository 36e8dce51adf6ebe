"""Commands of the fake that turn machines on and off."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from server_manager.drivers.virtualbox.fake import printing
from server_manager.drivers.virtualbox.fake.machines import existing, forward
from server_manager.drivers.virtualbox.fake.printing import Refused
from server_manager.drivers.virtualbox.fake.world import EMPTY, Machine, World

WAITS = "labctl-seed: waiting for a seed\n"  # what a guest says whose drive is empty
INVALID_STATE = "VBOX_E_INVALID_VM_STATE (0x80bb0002)"


def start(world: World, words: Sequence[str], *, dies: bool = False) -> str:
    """`startvm`: a port that is taken is told to the log alone. `dies`: at once, at exit code 0."""
    machine = existing(world, words[0], "LaunchVMProcess")
    if machine.is_on:
        raise printing.locked(machine, "LaunchVMProcess")
    log = Path(machine.folder) / "Logs" / "VBox.log"
    log.parent.mkdir(exist_ok=True)
    lines = ["00:00:00.000000 VirtualBox VM (fake)"]
    for rule in machine.rules.values():
        _, address, port, _, inside = rule.split(",")
        if _is_taken(world, machine, address, int(port)):
            lines.append(
                f"00:00:00.735842 VMSetError: NAT#0: configuration error: failed to set up"
                f" redirection of {port} to {inside}. Probably a conflict with existing services"
                " or other rules"
            )
    machine.state = "aborted" if dies else "running"
    lines.append("00:00:01.000000 Changing the VM state from 'POWERING_ON' to 'RUNNING'")
    log.write_text("\n".join(lines) + "\n")
    _print_serial(machine)
    told = f'VM "{words[0]}" has been successfully started.'
    return f'Waiting for VM "{words[0]}" to power on...\n{told}\n'


def _is_taken(world: World, machine: Machine, address: str, port: int) -> bool:
    others = [other for other in world.machines.values() if other.is_on and other is not machine]
    rules = [rule.split(",") for other in others for rule in other.rules.values()]
    if any(rule[1:3] == [address, str(port)] for rule in rules):
        return True
    with contextlib.closing(socket.socket()) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _fails(lambda: tried.bind((address, port)))


def _fails(call: Callable[[], None]) -> bool:
    try:
        call()
    except OSError:
        return True
    return False


def _print_serial(machine: Machine) -> None:
    mode, _, file = machine.settings.get("uartmode1", "").strip('"').partition(",")
    if mode == "file":
        with Path(file).open("a") as serial:
            waits = machine.attached.get("1") == EMPTY
            serial.write(WAITS if waits else "FATAL: No bootable medium found! System halted.\n")


def control(world: World, words: Sequence[str], *, deaf: bool = False) -> str:
    """`controlvm`. `deaf`: the guest does not hear its power button."""
    machine, action = existing(world, words[0]), words[1]
    if not machine.is_on:
        raise printing.not_running(machine)
    if action == "natpf1":
        forward(machine, ",".join(words[2:]))
        return ""
    if action == "acpipowerbutton":
        if not deaf and machine.state == "running":
            machine.state = "poweroff"
        return ""
    if action == "changeuartmode1":
        machine.settings["uartmode1"] = f'"{",".join(words[2:])}"'
        return ""
    if action not in _ACTIONS:
        raise Refused(f"Invalid parameter '{action}'", returncode=2)
    wanted, becomes, refusal = _ACTIONS[action]
    if machine.state not in wanted:
        raise Refused(refusal, INVALID_STATE, action)
    machine.state = becomes
    return ""


_ON = ("running", "paused", "starting", "stopping", "gurumeditation")
_ACTIONS = {
    "pause": (("running",), "paused", "Already paused"),
    "resume": (("paused",), "running", "Cannot resume the machine as it is not paused"),
    "poweroff": (_ON, "poweroff", "Invalid machine state"),
    "savestate": (("running", "paused"), "saved", "Cannot save the execution state"),
}


def discard(world: World, words: Sequence[str]) -> str:
    """`discardstate`."""
    machine = existing(world, words[0])
    if not machine.is_saved:
        raise Refused("Cannot discard the state of a machine that has none", INVALID_STATE)
    machine.state = "poweroff"
    return ""
