"""The commands of the fake, and what is planned to go wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from labcore.commands import Result
from labcore.errors import TimedOut
from server_manager.drivers.virtualbox.fake import disks, machines, media, printing, running
from server_manager.drivers.virtualbox.fake.printing import Refused
from server_manager.drivers.virtualbox.fake.world import World, opened, take_fault

PROGRESS = "0%...10%...20%...30%...40%...50%...60%...70%...80%...90%...100%\n"
PROGRAM = "VBoxManage"
HANG = "hang"
GERMAN = {
    "Could not find a registered machine named": "Es gibt keine Maschine namens",
    "is already locked by a session": "ist schon von einer Sitzung gesperrt",
    "is already locked for a session": "ist schon für eine Sitzung gesperrt",
    "is not currently running": "läuft zurzeit nicht",
}
Command = Callable[[World, Sequence[str]], str]


def show(world: World, words: Sequence[str]) -> str:
    """`showvminfo`."""
    return printing.info(world, machines.existing(world, words[0]))


def listing(world: World, words: Sequence[str]) -> str:
    """`list`."""
    what = words[-1]
    if what == "vms":
        is_long = words[0] in ("-l", "--long")
        return printing.long_list(world) if is_long else printing.short_list(world)
    if what in ("hdds", "dvds"):
        return printing.media(world, "disk" if what == "hdds" else "dvd")
    raise Refused(f'Unknown subcommand "{what}".', returncode=2)


def set_extradata(world: World, words: Sequence[str]) -> str:
    """`setextradata`; without a value the key goes."""
    machine = machines.existing(world, words[0], "SetExtraData")
    machine.extradata.pop(words[1], None)
    if len(words) > 2 and words[2]:
        machine.extradata[words[1]] = words[2]
    return ""


def get_extradata(world: World, words: Sequence[str]) -> str:
    """`getextradata … enumerate`, or of one key."""
    kept = machines.existing(world, words[0], "GetExtraDataKeys").extradata
    if words[1] == "enumerate":
        return "".join(f"Key: {key}, Value: {value}\n" for key, value in sorted(kept.items()))
    return f"Value: {kept[words[1]]}\n" if words[1] in kept else "No value set!\n"


def version(world: World, words: Sequence[str]) -> str:
    """`--version`."""
    return f"{printing.VERSION}\n"


COMMANDS: Mapping[str, Command] = {
    "--version": version,
    "list": listing,
    "showvminfo": show,
    "createvm": machines.create,
    "clonevm": machines.clone,
    "modifyvm": machines.modify,
    "snapshot": machines.snapshot,
    "unregistervm": machines.unregister,
    "createmedium": media.create,
    "convertfromraw": disks.convert,
    "clonemedium": disks.clone,
    "modifymedium": disks.resize,
    "internalcommands": disks.internal,
    "storagectl": media.controller,
    "storageattach": media.attach,
    "closemedium": media.close,
    "startvm": running.start,
    "controlvm": running.control,
    "discardstate": running.discard,
    "setextradata": set_extradata,
    "getextradata": get_extradata,
}


def answer(argv: Sequence[str], root: Path) -> Result:
    """What the program prints, and its exit code. Raises TimedOut where it is to hang."""
    command, words = (argv[0], argv[1:]) if argv else ("", ())
    fault = take_fault(root, command)
    if command not in COMMANDS:
        return _refused(argv, Refused(f"Invalid command '{command}'", returncode=2))
    if fault == HANG:
        raise TimedOut(f"`{PROGRAM} {command}` hangs, as was planned")
    if fault in _BEFORE:
        return _refused(argv, _BEFORE[fault])
    try:
        with opened(root) as world:
            printed = _run(world, command, words, fault)
    except Refused as refused:
        return _refused(argv, refused, german=fault == "german")
    if fault in _AFTER:
        return _refused(argv, _AFTER[fault])
    warning = printing.WARNING if fault == "warning" else ""
    progress = PROGRESS if command in ("clonevm", "snapshot", "unregistervm") else ""
    return Result((PROGRAM, *argv), 0, warning + printed, progress)


# What goes wrong before anything is done, and what when it is done.
_BEFORE = {
    "refused": Refused("The medium is full (VERR_DISK_FULL)", "NS_ERROR_FAILURE (0x80004005)"),
    "not-created": Refused("Failed to create the VirtualBox object!"),
    "busy": Refused(
        "The machine 'x' is already locked for a session (or being unlocked)",
        "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
        "LockMachine",
    ),
}
_AFTER = {
    "svc-died": Refused("Code NS_ERROR_CALL_FAILED (0x800706BE)", where="LockMachine"),
    "error-at-0": Refused("Something went wrong", returncode=0),
}


def _run(world: World, command: str, words: Sequence[str], fault: str | None) -> str:
    """Do it; `fault` may be one that only this command knows, or "skipped": it does nothing."""
    if fault == "skipped":
        return ""
    if fault == "dies" and command == "startvm":
        return running.start(world, words, dies=True)
    if fault == "deaf" and command == "controlvm":
        return running.control(world, words, deaf=True)
    return COMMANDS[command](world, words)


def _refused(argv: Sequence[str], refused: Refused, *, german: bool = False) -> Result:
    text = str(refused)
    for english, other in GERMAN.items() if german else ():
        text = text.replace(english, other)
    return Result((PROGRAM, *argv), refused.returncode, "", text)
