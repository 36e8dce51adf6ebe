"""The folder of one server: made whole by one rename, and gone by one rename.

Beside `<node>`, `.<node>.<id>.new` is one being made and `.<node>.<id>.gone` one being removed;
what a crash leaves of them is cleaned by the next create or destroy of the same server.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labcore.codec import WireError, decode, encode
from labcore.errors import Conflict, DriverFailed
from labcore.files import read_json, write_json, write_secret
from labcore.wire.node import NodeConfig
from server_manager.drivers.base import ServerRef, ServerSpec, sealed
from server_manager.drivers.local.plan import LOGS, SUPERVISOR_FILE, UNITS_FILE, Plan

SERVER_FILE = "server.json"
NODE_FILE = "node.json"
SECRETS = "secrets"
OURS = (SERVER_FILE, NODE_FILE, UNITS_FILE, SUPERVISOR_FILE)


class Broken(DriverFailed):
    """A folder of ours that is no server any more: parts of it are missing."""


class Unreadable(DriverFailed):
    """A folder of which nothing can be said: it could not be read, or not understood."""


@dataclass(frozen=True)
class Folder:
    """Where the files of one server are, or will be."""

    path: Path
    ref: ServerRef

    @property
    def node_file(self) -> Path:
        """The node config."""
        return self.path / NODE_FILE

    def log(self, source: str) -> Path:
        """The log of a service, or of the supervisor."""
        return self.path / LOGS / f"{source}.log"

    def stored(self) -> ServerSpec | None:
        """The spec it was made from, secrets as digests; None if there is no folder.

        It may be the spec of another server. Raises Broken or Unreadable.
        """
        try:
            value = read_json(self.path / SERVER_FILE)
            if value is None:
                if not self.path.exists():
                    return None
                raise Broken(f"{self.path} has no {SERVER_FILE}", "destroy it and make it again")
            return decode(ServerSpec, value)
        except (OSError, ValueError, WireError) as error:
            raise Unreadable(f"cannot read {self.path / SERVER_FILE}: {error}") from error

    def make(self, spec: ServerSpec) -> None:
        """Make it as a whole. Raises Conflict if something else stands there."""
        new = self._beside("new")
        with _failing(f"cannot make {self.path}"):
            self.remove_leftovers()
            if self.path.exists():
                self.remove()
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.mkdir(mode=0o700)
            (new / LOGS).mkdir(mode=0o700)
            for name, content in spec.secrets.items():
                write_secret(new / SECRETS / name, content)
            write_json(new / SERVER_FILE, encode(sealed(spec)), mode=0o600)
            new.rename(self.path)

    def write_spec(self, spec: ServerSpec) -> None:
        """Note a spec that took the place of the one it was made from."""
        with _failing(f"cannot write into {self.path}"):
            write_json(self.path / SERVER_FILE, encode(sealed(spec)), mode=0o600)

    def write_run_files(self, node: NodeConfig, plan: Plan) -> None:
        """What its services and its supervisor read. Written before every start."""
        with _failing(f"cannot write into {self.path}"):
            write_json(self.node_file, encode(node), mode=0o600)
            write_json(self.path / UNITS_FILE, encode(plan), mode=0o600)

    def supervisor_pid(self) -> int | None:
        """The pid that the last supervisor wrote; None if it was stopped in order, or never ran.

        Raises Unreadable.
        """
        try:
            value = read_json(self.path / SUPERVISOR_FILE)
        except (OSError, ValueError) as error:
            raise Unreadable(f"cannot read {self.path / SUPERVISOR_FILE}: {error}") from error
        pid = value.get("pid") if isinstance(value, dict) else None
        return pid if isinstance(pid, int) else None

    def forget_supervisor(self) -> None:
        """Note that it was stopped in order. May be called twice."""
        with _failing(f"cannot write into {self.path}"):
            (self.path / SUPERVISOR_FILE).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it with all that is in it; gone already: nothing.

        Raises Conflict, and removes nothing, if labctl did not make what is there.
        """
        with _failing(f"cannot remove {self.path}"):
            self.remove_leftovers()
            if not self.path.exists():
                return
            names = {entry.name for entry in self.path.iterdir()}
            if not names.intersection(OURS) and not names <= {LOGS, SECRETS}:
                raise Conflict(f"{self.path} was not made by labctl", "move it away")
            gone = self._beside("gone")
            self.path.rename(gone)
            shutil.rmtree(gone)

    def remove_leftovers(self) -> None:
        """Remove what a crash left beside it. None: nothing."""
        with _failing(f"cannot clean {self.path.parent}"):
            for what in ("new", "gone"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(self._beside(what))

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{self.ref.id}.{what}")


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DriverFailed(f"{what}: {error}", "look at the disk and at its permissions") from error
