"""The ways from this machine to the nodes, and from them to the server-manager.

One process for all labs of a state directory (`forwarder`) listens at the documented ports. What
it should do stands in a file for each lab, which follows from what Incus says of the lab's
instances: so whenever somebody looks at a lab, ways that are missing are there again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import psutil

from labcore.clock import Clock
from labcore.codec import encode
from labcore.commands import spawn_detached
from labcore.files import read_json, write_json
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.incus.carriers import Tunnel
from server_manager.drivers.incus.forwarder import LOCK, STATE, Way, Wish
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.network import LOOPBACK, Interface, own_address

FORWARDER = "server_manager.drivers.incus.forwarder"
LOG = "forwarder.log"
START_LIMIT_S = 15.0
AGAIN_S = 1.0
_OFF = (PowerState.STOPPED, PowerState.ABSENT)  # one of which nobody knows may well serve


class Ways:
    """Those of one state directory; `folder` is made when it is needed."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._told: dict[str, str] = {}

    def own_address(self, subnet: Interface) -> str | None:
        """This machine's address in a network of nodes, if it is on it."""
        return own_address(subnet)

    def follow(
        self, lab: str, ways: tuple[Way, ...] = (), tunnels: tuple[Tunnel, ...] = ()
    ) -> None:
        """Let the host ports of a lab lead where these say.

        Returns when they do; a tunnel may take as long as its node needs to boot. May be called at
        any time; raises TimedOut if there can be no forwarder.
        """
        text = json.dumps(encode((ways, tunnels)), sort_keys=True)
        wish = Wish(hashlib.sha256(text.encode()).hexdigest(), ways, tunnels)
        is_any = bool(ways or tunnels)
        with self._locks[lab]:
            if self._told.get(lab) == wish.digest and (not is_any or self._runs()):
                return
            self._tell(lab, wish if is_any else None)
            self._told[lab] = wish.digest

    def problem(self, instance: Instance) -> str | None:
        """Which of its host ports does not lead anywhere, and why."""
        problems = self._state().get("problems")
        if not isinstance(problems, dict) or not problems:
            return None
        mine = {f"{LOOPBACK}:{f.host_port}" for f in instance.forwards}
        found = [f"{where}: {why}" for where, why in problems.items() if where in mine]
        return f"cannot listen on {', '.join(found)}" if found else None

    def _tell(self, lab: str, wish: Wish | None) -> None:
        path = self._folder / f"{lab}.json"
        if wish is None:
            if not path.exists():
                return
            path.unlink(missing_ok=True)
        else:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(path, encode(wish), mode=0o600)
        self._wait(lab, None if wish is None else wish.digest)

    def _wait(self, lab: str, digest: str | None) -> None:
        """Until the forwarder says that it does what the file says, or has nothing to do."""
        spawned_at = float("-inf")

        def follows() -> None:
            nonlocal spawned_at
            if not self._runs():
                if digest is None:
                    return
                # One that was just ending may have kept the last one from beginning.
                if self._clock.monotonic() - spawned_at > AGAIN_S:
                    self._spawn()
                    spawned_at = self._clock.monotonic()
                raise NotYet("it does not run")
            labs = self._state().get("labs")
            told = labs.get(lab) if isinstance(labs, dict) else None
            if told != digest:
                raise NotYet("it has not looked yet")

        wait_until(
            follows,
            name="the forwarder of host ports to listen",
            limit_s=START_LIMIT_S,
            clock=self._clock,
            hint=f"look into {self._folder / LOG}",
            interval_s=0.005,
        )

    def _spawn(self) -> None:
        argv = (sys.executable, "-I", "-m", FORWARDER, str(self._folder))
        spawn_detached(argv, log=self._folder / LOG, cwd=self._folder)

    def _runs(self) -> bool:
        """Whether somebody holds the lock."""
        try:
            with (self._folder / LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _state(self) -> dict[str, Any]:
        """What the forwarder that runs has told; nothing, if it was another one that did."""
        try:
            told = cast(dict[str, Any], read_json(self._folder / STATE) or {})
            return told if psutil.pid_exists(int(told["pid"])) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def leads_to(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Those to which host ports should lead: they are whole, and on as far as anybody knows."""
    return tuple(i for i in instances if i.state not in _OFF and i.digest is not None and i.address)


def wanted(on: Iterable[Instance], ours: str) -> tuple[Way, ...]:
    """The ways to instances in a network where this machine has the address `ours`. Pure."""
    on = tuple(on)
    ways = [
        Way(f"{LOOPBACK}:{f.host_port}", f"{i.address}:{f.node_port}")
        for i in on
        for f in i.forwards
    ]
    for port in sorted({i.manager_port for i in on if i.manager_port is not None}):
        who = tuple(sorted(i.address for i in on if i.manager_port == port))
        ways.append(Way(f"{ours}:{port}", f"{LOOPBACK}:{port}", who))
    return tuple(ways)
