"""SSH keys of a lab, made by us before anything boots, so that no host key is ever a surprise.

Below `labs/<lab>/ssh`: `id_ed25519` is its user's, `control_ed25519` that with which control nodes
reach the others, `host_<node>` a node's own. Beside each private key (0600) lies its `.pub`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from labcore.errors import NotFound
from labcore.files import read_secret, write_atomic, write_secret
from server_manager.drivers.base import SshIdentity
from server_manager.paths import StatePaths

USER_KEY = "id_ed25519"
CONTROL_KEY = "control_ed25519"


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key: the private half as an OpenSSH file, the public one as its line."""

    private: str = field(repr=False)
    public: str


class SshKeys:
    """The keys of one state directory; each is made when it is first asked for."""

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._guard = threading.Lock()

    def identity(self, lab: str, node: str, role: str, others: Iterable[str]) -> SshIdentity:
        """Who a node is to SSH. A control node may log in to `others`, which know its key."""
        host = self._pair(lab, _host_key(node), node)
        user = self._pair(lab, USER_KEY, f"{lab}@labctl")
        control = self._pair(lab, CONTROL_KEY, f"control@{lab}")
        if role != "control":
            return SshIdentity(host.private, host.public, (user.public, control.public))
        known = tuple(f"{o} {_bare(self._pair(lab, _host_key(o), o).public)}" for o in others)
        return SshIdentity(host.private, host.public, (user.public,), control.private, known)

    def _pair(self, lab: str, name: str, comment: str) -> KeyPair:
        path = self._paths.ssh(lab) / name
        with self._guard:
            if not path.exists() or not _public(path).exists():
                pair = make_pair(comment)
                write_secret(path, pair.private)
                write_atomic(_public(path), pair.public + "\n")
            return KeyPair(read_secret(path) + "\n", read_secret(_public(path)))


def host_key_of(keys: Callable[[str], Path], lab: str, node: str) -> str:
    """The public host key that was made for a node: its type and key; `keys` says where those of
    a lab are. Raises NotFound."""
    path = _public(keys(lab) / _host_key(node))
    try:
        return _bare(path.read_text())
    except OSError as error:
        raise NotFound(
            f"no host key was made for {lab}/{node} ({path})", f"labctl up --lab {lab} makes it"
        ) from error


def make_pair(comment: str) -> KeyPair:
    """A new key."""
    # Imported here: a lab of processes needs no key.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(private.decode(), f"{public.decode()} {comment}")


def _host_key(node: str) -> str:
    return f"host_{node}"


def _public(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def _bare(public: str) -> str:
    """A public key line without its comment."""
    return " ".join(public.split()[:2])
