"""The driver `incus`: every server is a container, or a VM, with a seed pushed before it boots.

The truth is Incus's: what is ours is known by labels (`instances`), and is asked for each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from labcore.clock import Clock
from labcore.errors import Conflict, LabError, NotFound, TimedOut
from labcore.wire.lab import PowerState
from server_manager.drivers.base import (
    Capabilities,
    DriverHealth,
    DriverServer,
    ImageSupport,
    ServerRef,
    ServerSpec,
    Stray,
)
from server_manager.drivers.incus import cluster, instances, logs
from server_manager.drivers.incus import network as networks
from server_manager.drivers.incus.advice import AddressTaken, AlreadyThere, NoSuchInstance
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.images import IncusImages
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.look import Look, Looks
from server_manager.drivers.incus.making import Maker
from server_manager.drivers.incus.records import Records
from server_manager.drivers.incus.tunnels import Tunnels
from server_manager.drivers.incus.ways import Ways, leads_to, wanted

CAPABILITIES = Capabilities(
    shares_host_network=False,
    scope="container",
    access="ssh",
    gates=("created", "booted", "configured", "ssh", "healthy", "serving"),
    boot_limit_s=120.0,
    pause=True,
    console_log=True,
    members=True,
    images=ImageSupport("name", "driver", default="images:debian/12"),
)
STOP_GRACE_S = 40  # the app's own, and a little
CHANGE_LIMIT_S = 60.0
ADDRESSES_TRIED = 5


class IncusDriver(IncusImages):
    """See Driver, Pausing, ConsoleLog, ImageMaking. One for each of the settings that labs have."""

    name = "incus"

    def __init__(
        self,
        incus: Incus,
        ways: Ways,
        records: Records,
        clock: Clock,
        ssh_keys: Callable[[str], Path],
    ) -> None:
        super().__init__(incus, clock)
        self._ways = ways
        self._tunnels = Tunnels(incus, ssh_keys)
        self._records = records
        self._looks = Looks(incus, records, clock)
        self._maker = Maker(incus, CAPABILITIES, ways.own_address)

    def health(self) -> DriverHealth:
        """See Driver."""
        try:
            told = self._incus.get("")
            version = str(told["environment"]["server_version"])
            found = networks.find(self._incus, self._ways.own_address)
            look = self._looks.members()
            cluster.check_quorum(look)
        except LabError as error:
            return DriverHealth(False, "", error.message, error.hint)
        members = f", {len(look)} members" if look else ""
        through = "" if found.ours else ", reached through Incus"
        where = f"{self._incus.remote}{self._incus.settings.project}, network {found.name}{through}"
        return DriverHealth(True, f"Incus {version} ({where}{members})")

    def capabilities(self) -> Capabilities:
        """See Driver."""
        return CAPABILITIES

    def create(self, spec: ServerSpec) -> None:
        """See Driver. Raises NotFound if its image is gone, Conflict if its name is taken."""
        self._incus.settle()
        look = self._looks.of(spec.ref.lab)
        found = look.find(spec.ref)
        if found is not None and found.digest is not None:
            self._take_over(found, spec)
            return
        if found is not None:
            self._remove(found)
        self._maker.make(spec, look)

    def _take_over(self, found: Instance, spec: ServerSpec) -> None:
        if found.digest != instances.digest_of(spec):
            raise Conflict(f"{spec.ref.name} exists and was made otherwise", "destroy it first")
        if found.forwards != spec.forwards:
            body = {"config": instances.forwards_label(spec)}
            self._incus.change("PATCH", f"/instances/{found.name}", body)
            self._follow_ways(self._looks.of(spec.ref.lab))

    def start(self, ref: ServerRef) -> None:
        """See Driver. One whose address somebody took gets another one."""
        look, found = self._existing(ref)
        if found.state is PowerState.PAUSED:
            self._act(found, "unfreeze", (PowerState.RUNNING,))
        elif found.state not in (PowerState.RUNNING, PowerState.STARTING):
            self._boot(look, found)
        self._follow_ways(self._looks.of(ref.lab))

    def _boot(self, look: Look, found: Instance) -> None:
        for left in reversed(range(ADDRESSES_TRIED)):
            try:
                self._act(found, "start", (PowerState.RUNNING, PowerState.STARTING))
                return
            except AddressTaken:
                if left == 0:
                    raise
                found = self._maker.move(found, look)

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        """See Driver. One that does not end within its grace time is turned off."""
        look = self._looks.of(ref.lab)
        found = look.find(ref)
        if found is not None and found.state is not PowerState.STOPPED:
            self._stop(found, force=force)
            look = self._looks.of(ref.lab)
        # Nobody listens for it from now on: who asks for its ports is refused.
        self._follow_ways(look)

    def _stop(self, found: Instance, *, force: bool) -> None:
        off = (PowerState.STOPPED,)
        if not force:
            try:
                if found.state is PowerState.PAUSED:
                    self._act(found, "unfreeze", (PowerState.RUNNING,))
                self._act(found, "stop", off, timeout=STOP_GRACE_S)
                return
            except LabError:
                pass  # it does not listen: then it is turned off
        self._act(found, "stop", off, force=True)

    def destroy(self, ref: ServerRef) -> None:
        """See Driver."""
        found = self._looks.of(ref.lab).find(ref)
        if found is not None:
            self._remove(found)
            self._follow_ways(self._looks.of(ref.lab))
        self._records.forget(ref)

    def _remove(self, found: Instance) -> None:
        if found.state is not PowerState.STOPPED:
            self._stop(found, force=True)
        try:
            self._incus.change("DELETE", f"/instances/{found.name}", limit_s=CHANGE_LIMIT_S)
        except NoSuchInstance:
            return
        except TimedOut:
            if self._looks.of(found.ref.lab).find(found.ref) is not None:
                raise

    def get(self, ref: ServerRef) -> DriverServer:
        """See Driver."""
        try:
            look = self._looks.of(ref.lab)
            found = look.find(ref)
            if found is None:
                return DriverServer(ref, PowerState.ABSENT)
            self._follow_ways(look)
            return self._told(found, look)
        except LabError as error:
            return DriverServer(ref, PowerState.UNKNOWN, problem=error.message)

    def servers(self, lab: str) -> tuple[DriverServer, ...]:
        """See Driver."""
        look = self._looks.of(lab)
        self._follow_ways(look)
        return tuple(self._told(found, look) for found in look.instances)

    def strays(self, labs: Collection[str]) -> tuple[Stray, ...]:
        """See StrayFinding. Labs of another state directory have the same marks."""
        where = f"--project {self._incus.settings.project} {self._incus.remote}"
        return tuple(
            Stray(one.name, one.ref.lab, f"incus delete --force {where}{one.name}")
            for one in self._looks.everything()
            if one.ref.lab not in labs
        )

    def _told(self, found: Instance, look: Look) -> DriverServer:
        server = cluster.judge(found, look.members, self._incus.remote)
        if server.problem is None and server.state is PowerState.RUNNING:
            problem = self._ways.problem(found)
            if problem is not None:
                return dataclasses.replace(server, problem=problem)
        return server

    def pause(self, ref: ServerRef) -> None:
        """See Pausing."""
        _, found = self._existing(ref)
        if found.state is PowerState.STOPPED:
            raise Conflict(f"{ref.name} is off", "start it first")
        if found.state is not PowerState.PAUSED:
            self._act(found, "freeze", (PowerState.PAUSED,))

    def resume(self, ref: ServerRef) -> None:
        """See Pausing."""
        _, found = self._existing(ref)
        if found.state is PowerState.STOPPED:
            raise Conflict(f"{ref.name} is off", "start it")
        if found.state is PowerState.PAUSED:
            self._act(found, "unfreeze", (PowerState.RUNNING,))

    def console_log(self, ref: ServerRef, source: str | None, lines: int) -> tuple[str, ...]:
        """See ConsoleLog: what systemd has of our units; nothing of one that is off."""
        _, found = self._existing(ref)
        known = tuple(f.service for f in found.forwards if f.service != "ssh")
        return logs.read(self._incus, found, source, known, lines)

    # ------------------------------------------------------------------ inside

    def _existing(self, ref: ServerRef) -> tuple[Look, Instance]:
        look = self._looks.of(ref.lab)
        found = look.find(ref)
        if found is None:
            raise NotFound(f"server {ref.lab}/{ref.name} does not exist")
        return look, found

    def _act(
        self,
        found: Instance,
        action: str,
        reached: Sequence[PowerState],
        *,
        force: bool = False,
        timeout: int = -1,
    ) -> None:
        """Change its power state. A call that failed or did not end may have done it: look."""
        body = {"action": action, "timeout": timeout, "force": force}
        limit_s = CHANGE_LIMIT_S + max(0, timeout)
        try:
            self._incus.change("PUT", f"/instances/{found.name}/state", body, limit_s=limit_s)
        except AlreadyThere:
            return
        except LabError:
            now = self._looks.of(found.ref.lab).find(found.ref)
            if now is None or now.state not in reached:
                raise

    def _follow_ways(self, look: Look) -> None:
        on, ours = leads_to(look.instances), self._maker.network().ours
        if ours is None:
            self._ways.follow(look.lab, tunnels=self._tunnels.to(on))
        else:
            self._ways.follow(look.lab, wanted(on, ours))
