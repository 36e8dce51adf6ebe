"""The ways to nodes whose network this machine is not on: through Incus itself.

`incus exec` of the node's own `sshd -i` is what an ssh client here speaks with, so that a remote
that answers is enough: no route, no port of the cluster's machines, no proxy device that others
could reach. The ssh client listens at the documented host ports, and lets the control node, and
nobody else, reach the server-manager at its own loopback. Host keys are pinned as everywhere.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from labcore.files import write_atomic
from server_manager.drivers.incus.carriers import Tunnel
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.network import LOOPBACK
from server_manager.guest.seed import LOGIN_USER
from server_manager.ssh_keys import USER_KEY, host_key_of

# Speaks SSH on its standard input and output, without a port; as root, which `incus exec` gives.
SSHD = ("/usr/sbin/sshd", "-i")
# Ends when its input does: the node's end goes with ours, however that one was killed.
WAIT = "cat"
OPTIONS = (
    "BatchMode=yes",
    "ControlPath=none",
    "ExitOnForwardFailure=yes",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
    # A node that is paused does not answer for long, and is not gone.
    "ServerAliveInterval=0",
    "StrictHostKeyChecking=yes",
)


class Tunnels:
    """Those through one remote and project; `keys` says where those of a lab are."""

    def __init__(self, incus: Incus, keys: Callable[[str], Path]) -> None:
        self._incus = incus
        self._keys = keys

    def to(self, on: Iterable[Instance]) -> tuple[Tunnel, ...]:
        """One for each instance; `on` are those that run. Raises DriverUnusable without `incus`."""
        return tuple(self._one(instance) for instance in on if instance.forwards)

    def _one(self, instance: Instance) -> Tunnel:
        keys, node = self._keys(instance.ref.lab), instance.ref.name
        known = keys / f"tunnel_{node}"
        if not known.exists():
            public = host_key_of(self._keys, instance.ref.lab, node)
            write_atomic(known, f"{node} {public}\n", mode=0o600)
        listens = {f"{LOOPBACK}:{f.host_port}": f.node_port for f in instance.forwards}
        ways = [
            word
            for listen, port in listens.items()
            for word in ("-L", f"{listen}:{instance.address}:{port}")
        ]
        if instance.manager_port is not None:
            back = f"{LOOPBACK}:{instance.manager_port}"
            ways += ["-R", f"{back}:{back}"]
        options = (f"UserKnownHostsFile={known}", f"ProxyCommand={self._carrier(instance)}")
        argv = (
            *("ssh", "-T", "-F", "none", "-i", str(keys / USER_KEY)),
            *(word for option in (*OPTIONS, *options) for word in ("-o", option)),
            *ways,
            *(f"{LOGIN_USER}@{node}", WAIT),
        )
        return Tunnel(argv, tuple(listens))

    def _carrier(self, instance: Instance) -> str:
        config = self._incus.settings.config
        environment = ("env", f"INCUS_CONF={config}") if config else ()
        command = (*environment, *self._incus.inside(instance.name, SSHD))
        return shlex.join(command).replace("%", "%%")  # ssh has tokens of its own
