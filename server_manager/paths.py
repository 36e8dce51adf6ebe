"""Every file name in the state directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labcore.errors import UsageProblem

if TYPE_CHECKING:
    # Only for its name: every command imports this module.
    from server_manager.drivers.base import ServerRef

STATE_DIR_VARIABLE = "LABCTL_STATE_DIR"


@dataclass(frozen=True)
class StatePaths:
    """The files of one state directory; see docs/architecture.md for what each one is."""

    root: Path

    @staticmethod
    def find(environ: Mapping[str, str] | None = None) -> StatePaths:
        """The state directory that the environment (ours by default) names, else the user's own."""
        named = (os.environ if environ is None else environ).get(STATE_DIR_VARIABLE)
        if named:
            return StatePaths(Path(named).expanduser().absolute())
        # Imported here: a command that is told the directory need not pay for it.
        import platformdirs

        return StatePaths(Path(platformdirs.user_state_dir("labctl")))

    def make(self) -> None:
        """Make the state directory, for its owner only. May be called twice.

        Raises UsageProblem if there can be none.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.labs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageProblem(
                f"{self.root} cannot be the state directory: {error.strerror}",
                f"{STATE_DIR_VARIABLE} names another one",
            ) from error

    @property
    def database(self) -> Path:
        """Registry, leases, journal and events."""
        return self.root / "manager.sqlite3"

    @property
    def manager(self) -> Path:
        """Process id, create time and URL of the running server-manager, or why it ended."""
        return self.root / "manager.json"

    @property
    def start_lock(self) -> Path:
        """Held while one starts."""
        return self.root / "manager.lock"

    @property
    def running_lock(self) -> Path:
        """Held while one runs."""
        return self.root / "manager.running"

    @property
    def log(self) -> Path:
        """The log of the server-manager."""
        return self.root / "manager.log"

    @property
    def admin_token(self) -> Path:
        """The token of the person at this machine."""
        return self.root / "admin-token"

    @property
    def labs(self) -> Path:
        """One folder for each lab."""
        return self.root / "labs"

    def lab(self, lab: str) -> Path:
        """All files of one lab."""
        return self.labs / lab

    def secrets(self, lab: str) -> Path:
        """The tokens of one lab."""
        return self.lab(lab) / "secrets"

    def ssh(self, lab: str) -> Path:
        """The SSH keys of one lab."""
        return self.lab(lab) / "ssh"

    def ssh_config(self, lab: str) -> Path:
        """What the ssh program is told of the nodes of one lab."""
        return self.ssh(lab) / "config"

    def known_hosts(self, lab: str) -> Path:
        """The pinned host keys of one lab, for the ssh program."""
        return self.ssh(lab) / "known_hosts"

    @property
    def ssh_sockets(self) -> Path:
        """Sockets of ssh connections that wait for the next command; such a path must be short."""
        return self.root / "mux"

    @property
    def images(self) -> Path:
        """What servers are cloned from, and what is being downloaded or built for it."""
        return self.root / "images"

    def image(self, driver: str, name: str) -> Path:
        """All files of one image that its driver does not keep elsewhere."""
        return self.images / driver / name

    def image_login(self, driver: str, name: str) -> Path:
        """The keys of the first login into the builder of an image, while there is one."""
        return self.image(driver, name) / "login"

    def user_secret(self, name: str) -> Path:
        """Where a user puts a secret that lab files name as `secret:NAME`."""
        return self.root / "secrets" / name

    def driver(self, name: str) -> Path:
        """What a driver keeps for all its labs together."""
        return self.root / "drivers" / name

    def node(self, server: ServerRef) -> Path:
        """The files of one server, where a driver keeps them on this machine."""
        return self.lab(server.lab) / "nodes" / server.name
