"""How labctl gets into a builder for the first time; that way in is closed when it is sealed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labcore.errors import UsageProblem
from labctl.ssh.endpoint import Endpoint, Learned, Pinned
from server_manager.images.login import HOST_KEY, KEY, USER
from server_manager.paths import StatePaths

BOX = ".box"
BOX_USER = "vagrant"
# Vagrant publishes this key for boxes on purpose: it is no secret, and opens nothing else.
BOX_KEY = Path(__file__).parent / "vagrant_insecure_key"


@dataclass(frozen=True)
class Login:
    """Who logs in, and with which key; None: the one-time key of a NoCloud disk."""

    user: str
    key: Path | None

    @property
    def kind(self) -> Literal["seed", "given"]:
        """As the server-manager is told it."""
        return "given" if self.key else "seed"

    def endpoint(self, paths: StatePaths, driver: str, name: str, address: str) -> Endpoint:
        """The builder at `address` (127.0.0.1:PORT), to be logged in to."""
        host, _, port = address.rpartition(":")
        made = paths.image_login(driver, name)
        if self.key is None:
            pinned = Pinned((made / HOST_KEY).read_text())
            return Endpoint("builder", host, int(port), self.user, made / KEY, pinned)
        learned = Learned(made / f"known-{port}")
        return Endpoint("builder", host, int(port), self.user, self.key, learned)


def choose(source: str | None, user: str | None, key: str | None) -> Login:
    """What the flags say; else Vagrant's way for a box, and a NoCloud disk for all others.

    Raises UsageProblem for a key that is not there, or one without the other.
    """
    box = source is not None and source.endswith(BOX)
    if user is None and key is None:
        return Login(BOX_USER, BOX_KEY) if box else Login(USER, None)
    if key is None and not box:
        raise UsageProblem(f"--ssh-user {user}: with which key?", "--ssh-key FILE")
    path = Path(key).expanduser().absolute() if key else BOX_KEY
    if not path.is_file():
        raise UsageProblem(f"--ssh-key {key}: there is no such file")
    return Login(user or (BOX_USER if box else "root"), path)
