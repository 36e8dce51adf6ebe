"""What VBoxManage prints about machines and media, as values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

INACCESSIBLE = "inaccessible"
EMPTY = "emptydrive"
DRIVE_PORT = "1"  # of the SATA controller; the disk is on port 0
_PAIR = re.compile(r'^(?:"([^"]+)"|([^="]+))=(?:"(.*)"|(.*))$')
_RULE = re.compile(r"^Forwarding\(\d+\)$")
_BEGINNING = re.compile(r"^Name: +(?=\S.*\n(?:Encryption|Groups|UUID): )", re.MULTILINE)
_FIELD = re.compile(r"^([A-Z][^:\n]*):[ \t]+(.*)$", re.MULTILINE)
_VM = re.compile(r'^"(.*)" \{([0-9a-f-]{36})\}$')
_EXTRA = re.compile(r"^Key: (.*?), Value: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """A port forward of NIC 1, as VirtualBox stored it."""

    name: str
    protocol: str
    host_ip: str
    host_port: int
    guest_port: int


@dataclass(frozen=True)
class Machine:
    """One virtual machine. `info` is all that `showvminfo` said, empty if it came from a list."""

    uuid: str
    name: str
    state: str  # VirtualBox's word, as `showvminfo --machinereadable` has it
    settings: str  # its settings file
    log_folder: str = ""
    problem: str = ""  # why it is inaccessible
    info: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The port forwards, by name."""
        found = (_rule(value) for key, value in self.info.items() if _RULE.match(key))
        return tuple(sorted((r for r in found if r), key=lambda rule: rule.name))

    @property
    def serial(self) -> Path | None:
        """The file into which it prints on its first serial port."""
        mode, _, path = self.info.get("uartmode1", "").partition(",")
        return Path(path) if mode == "file" else None

    @property
    def snapshot(self) -> str | None:
        """The UUID of the snapshot it stands on."""
        return self.info.get("CurrentSnapshotUUID")

    @property
    def controller(self) -> str | None:
        """The name of its first storage controller."""
        return self.info.get("storagecontrollername0")

    @property
    def disc(self) -> str | None:
        """What is in its drive, `EMPTY` for nothing; None if it has no drive."""
        found = self.info.get(f"{self.controller}-{DRIVE_PORT}-0", "none")
        return None if found == "none" else found


@dataclass(frozen=True)
class Medium:
    """A disk or disc that VirtualBox knows."""

    uuid: str
    parent: str | None
    location: str


def parse_info(text: str) -> Machine:
    """A machine from `showvminfo --machinereadable`. Raises ValueError if that is none."""
    info = parse_pairs(text)
    try:
        return Machine(
            uuid=info["UUID"],
            name=info["name"],
            state=info["VMState"],
            settings=info["CfgFile"],
            log_folder=info.get("LogFldr", ""),
            info=info,
        )
    except KeyError as missing:
        raise ValueError(f"showvminfo said nothing of {missing}") from None


def parse_pairs(text: str) -> dict[str, str]:
    """Key to value. The first of a key counts: a description may look like anything."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        if match := _PAIR.match(line):
            quoted_key, key, quoted, plain = match.groups()
            value = quoted if quoted is not None else plain
            pairs.setdefault(quoted_key or key, value)
    return pairs


def parse_long_list(text: str) -> tuple[Machine, ...]:
    """The machines of `list --long vms`, without `info`."""
    starts = [match.start() for match in _BEGINNING.finditer(text)]
    parts = (text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=False))
    return tuple(_long(part) for part in parts)


def _long(text: str) -> Machine:
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(text):
        fields.setdefault(match.group(1), match.group(2).strip())
    if fields["Name"].startswith("<inaccessible"):
        state, problem = INACCESSIBLE, text.partition("Access error details:\n")[2].strip()
    else:
        state, problem = fields.get("State", "").partition(" (since")[0], ""
    return Machine(
        uuid=fields.get("UUID", ""),
        name=fields["Name"],
        state=SHORT.get(state, state),
        settings=fields.get("Config file", ""),
        log_folder=fields.get("Log folder", ""),
        problem=problem,
    )


# What `list --long` prints, where it is not what `showvminfo --machinereadable` prints.
SHORT: Mapping[str, str] = {
    "powered off": "poweroff",
    "guru meditation": "gurumeditation",
    "live snapshotting": "livesnapshotting",
    "online snapshotting": "onlinesnapshotting",
    "offline snapshotting": "snapshotting",
    "teleporting paused vm": "teleportingpausedvm",
    "teleporting (incoming)": "teleportingin",
    "restoring snapshot": "restoringsnapshot",
    "deleting snapshot": "deletingsnapshot",
    "deleting snapshot live": "deletingsnapshotlive",
    "deleting snapshot live paused": "deletingsnapshotlivepaused",
    "setting up": "settingup",
}


def parse_short_list(text: str) -> dict[str, str]:
    """UUID to name, from `list vms`."""
    found = (_VM.match(line) for line in text.splitlines())
    return {match.group(2): match.group(1) for match in found if match}


def parse_media(text: str) -> tuple[Medium, ...]:
    """The media of `list hdds` or `list dvds`."""
    return tuple(_media(text))


def _media(text: str) -> Iterator[Medium]:
    for part in re.split(r"\n\s*\n", text):
        fields = {key: value.strip() for key, value in _FIELD.findall(part)}
        if "UUID" in fields and "Location" in fields:
            parent = fields.get("Parent UUID")
            yield Medium(
                fields["UUID"], None if parent in (None, "base") else parent, fields["Location"]
            )


def parse_extradata(text: str) -> dict[str, str]:
    """Key to value, from `getextradata … enumerate`."""
    return dict(_EXTRA.findall(text))


def _rule(value: str) -> Rule | None:
    parts = value.split(",")
    if len(parts) != 6 or not (parts[3].isdigit() and parts[5].isdigit()):
        return None
    return Rule(parts[0], parts[1], parts[2], int(parts[3]), int(parts[5]))
