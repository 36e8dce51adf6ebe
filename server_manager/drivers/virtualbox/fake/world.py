"""What the fake remembers between two calls: one JSON file, one lock."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from labcore.files import read_json, write_json

WORLD_FILE, LOCK_FILE, FAULTS_FILE = "world.json", "world.lock", "faults.json"
CONTROLLER = "SATA"
EMPTY = "emptydrive"


@dataclass
class Machine:
    """A machine; its settings file and log lie in `folder`."""

    uuid: str
    name: str
    folder: str
    state: str = "poweroff"
    groups: str = "/"
    settings: dict[str, str] = field(default_factory=dict)  # as `showvminfo` tells them
    rules: dict[str, str] = field(default_factory=dict)  # name -> the rest of a NAT rule
    extradata: dict[str, str] = field(default_factory=dict)
    # [uuid, name, "live" if it has memory, else ""]
    snapshots: list[list[str]] = field(default_factory=list)
    ports: int = 0  # of its storage controller; 0: it has none
    attached: dict[str, str] = field(default_factory=dict)  # port -> UUID of a medium, or EMPTY

    @property
    def file(self) -> Path:
        """Its settings file; without it the machine is inaccessible."""
        return Path(self.folder) / f"{self.name}.vbox"

    @property
    def is_on(self) -> bool:
        """Whether a session holds it."""
        return self.state in ("running", "paused", "starting", "stopping", "gurumeditation")

    @property
    def is_saved(self) -> bool:
        """Whether its memory is kept in a file."""
        return self.state in ("saved", "aborted-saved")


@dataclass
class Medium:
    """A disk or disc; `users` are snapshots, which are not told but keep it."""

    uuid: str
    kind: str  # disk | dvd
    location: str
    parent: str = ""


@dataclass
class Fault:
    """Something that will go wrong: with the next `times` calls of a command."""

    command: str
    what: str
    times: int = 1


@dataclass
class World:
    """All that there is."""

    machines: dict[str, Machine] = field(default_factory=dict)
    media: dict[str, Medium] = field(default_factory=dict)

    def find(self, name: str) -> Machine | None:
        """A machine by UUID or, the first, by name."""
        named = (m for m in self.machines.values() if m.name == name)
        return self.machines.get(name) or next(named, None)

    def children(self, uuid: str) -> list[Medium]:
        """The media that need one."""
        return [medium for medium in self.media.values() if medium.parent == uuid]


@contextlib.contextmanager
def opened(root: Path) -> Iterator[World]:
    """The world, for one call alone; kept as it is then, however the call ends."""
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / LOCK_FILE, poll_interval=0.005):
        kept: Any = read_json(root / WORLD_FILE) or {"machines": {}, "media": {}}
        world = World(
            {key: Machine(**value) for key, value in kept["machines"].items()},
            {key: Medium(**value) for key, value in kept["media"].items()},
        )
        try:
            yield world
        finally:
            write_json(root / WORLD_FILE, asdict(world))


def plan(root: Path, *faults: Fault) -> None:
    """Let things go wrong from now on, in place of what was planned before."""
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / LOCK_FILE):
        write_json(root / FAULTS_FILE, [asdict(fault) for fault in faults])


def take_fault(root: Path, command: str) -> str | None:
    """What goes wrong with this call, if anything does."""
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / LOCK_FILE):
        kept: Any = read_json(root / FAULTS_FILE) or []
        faults = [Fault(**value) for value in kept]
        for fault in faults:
            if fault.command in (command, "*") and fault.times > 0:
                fault.times -= 1
                write_json(root / FAULTS_FILE, [asdict(f) for f in faults])
                return fault.what
    return None


def new_uuid() -> str:
    """One that nobody has."""
    return str(uuid.uuid4())
