"""The folder of one server: what it was made from, its seed, its serial log, its machine.

`server.json` is written first without a spec and, when the machine is whole, with it: so what a
crash leaves of a machine is known as half made, by whichever call comes next.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labcore.codec import WireError, decode, encode
from labcore.errors import Conflict, DriverFailed
from labcore.files import read_json, write_json
from server_manager.drivers.base import ServerRef, ServerSpec, sealed
from server_manager.guest.iso import write_iso
from server_manager.guest.seed import Seed

SERVER_FILE = "server.json"


@dataclass(frozen=True)
class Record:
    """What is noted of a server. Its secrets are digests; no spec: it is half made."""

    ref: ServerRef
    machine: str  # UUID
    spec: ServerSpec | None = None
    adopted: bool = False  # somebody else made the machine


@dataclass(frozen=True)
class Folder:
    """Where the files of one server are, or will be."""

    path: Path

    @property
    def seed(self) -> Path:
        """The disc that tells the guest who it is; 0600, as it holds secrets."""
        return self.path / "seed.iso"

    @property
    def serial(self) -> Path:
        """What the guest prints on its first serial port."""
        return self.path / "serial.log"

    @property
    def machines(self) -> Path:
        """Below it VirtualBox puts the machine."""
        return self.path / "machine"

    @property
    def live(self) -> Folder:
        """Of an image: the folder of its live machine."""
        return Folder(self.path / "live")

    def contains(self, place: str) -> bool:
        """Whether a path that VirtualBox told lies in this folder."""
        return Path(place).is_relative_to(self.path)

    def record(self) -> Record | None:
        """What is noted; None if nothing is. Raises DriverFailed if it cannot be read."""
        try:
            value = read_json(self.path / SERVER_FILE)
            return None if value is None else decode(Record, value)
        except (OSError, ValueError, WireError) as error:
            raise DriverFailed(
                f"cannot read {self.path / SERVER_FILE}: {error}", "repair it, or move it away"
            ) from error

    def note(self, record: Record) -> None:
        """Write down what is known now; secrets become digests."""
        spec = sealed(record.spec) if record.spec else None
        with _failing(f"cannot write into {self.path}"):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            noted = Record(record.ref, record.machine, spec, record.adopted)
            write_json(self.path / SERVER_FILE, encode(noted), mode=0o600)

    def write_seed(self, seed: Seed) -> None:
        """Write the disc, whole or not at all: a guest that runs keeps the one it has."""
        with _failing(f"cannot write {self.seed}"):
            write_iso(seed, self.seed)

    def clear(self) -> None:
        """Remove the machine's files and the logs, for a machine that is not registered."""
        with _failing(f"cannot remove {self.machines}"):
            if self.machines.exists():
                shutil.rmtree(self.machines)
            self.serial.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it all; gone already: nothing. Raises Conflict if labctl did not make it."""
        if not self.path.exists():
            return
        known = {SERVER_FILE, self.seed.name, self.serial.name, self.machines.name}
        with _failing(f"cannot remove {self.path}"):
            names = {entry.name for entry in self.path.iterdir()}
            if SERVER_FILE not in names and not names <= known:
                raise Conflict(f"{self.path} was not made by labctl", "move it away")
            for name in names - {SERVER_FILE}:
                entry = self.path / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            # Last: as long as anything is left, it says whose it is.
            shutil.rmtree(self.path)


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DriverFailed(f"{what}: {error}", "look at the disk and at its permissions") from error
