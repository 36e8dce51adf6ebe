"""Turning single servers on and off: for people, and for the scaler of a lab.

A person's `on` and `off` change the wished count of a scaled group, and the scaler drains what is
to go. The scaler's own `on`, `off` and `standby` carry a wish out. `kill` changes no wish: it is
a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labcore.errors import Conflict, Forbidden, NotFound, UsageProblem
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import Desired, Group, Scaling, Wanted
from server_manager.core import Core
from server_manager.labspec import member_name, most_servers
from server_manager.operations import OFF, Operations, ask
from server_manager.ports import Moved
from server_manager.registry import GroupWish, LabRecord, ServerRecord
from server_manager.room import Room, Seen

SCALER_SILENT_S = 15.0  # it asks every few seconds; beyond this it is not there
DRAIN_MARGIN_S = 30.0
POLL_S = 0.0125  # at first; 0.25 s in the end

# Whether a server may be wanted so; called in the transaction that writes it. Raises Conflict.
Check = Callable[[LabRecord, ServerRecord | None, Seen], None]


@dataclass(frozen=True)
class Target:
    """A server that a lab has, or may have."""

    lab: LabRecord
    group: Group
    index: int

    @property
    def name(self) -> str:
        """The name of the node."""
        return member_name(self.group, self.index)


class Power:
    """What may be done to single servers, and by whom."""

    def __init__(self, core: Core, operations: Operations, room: Room) -> None:
        self._core = core
        self._operations = operations
        self._room = room
        self._started = core.clock.monotonic()
        self._heard: dict[str, float] = {}

    def heard_from_scaler(self, lab: str) -> None:
        """Note that the scaler of a lab lives."""
        self._heard[lab] = self._core.clock.monotonic()

    def find(self, server: str, lab: str | None = None) -> Target:
        """The server that `agent-3` or `lab/agent-3` means; `lab` settles which lab.

        Numbers that a group may have, but has not, are found too. Raises NotFound, and Conflict
        where several labs have one.
        """
        named, _, node = server.rpartition("/")
        if lab is not None and named not in ("", lab):
            raise Forbidden(f"{server!r} is not of lab {lab!r}")
        wanted = lab or named
        labs = (self._core.labs.get(wanted),) if wanted else self._core.labs.all()
        found = [t for record in labs if (t := self._member(record, node)) is not None]
        if not found:
            raise NotFound(f"there is no server {server!r}", "labctl status shows all servers")
        if len(found) > 1:
            names = ", ".join(f"{t.lab.name}/{node}" for t in found)
            raise Conflict(f"{node!r} is in several labs", f"say which: {names}")
        return found[0]

    def _member(self, lab: LabRecord, node: str) -> Target | None:
        row = self._core.servers.find(lab.name, node)
        if row is not None:
            return Target(lab, lab.spec.group(row.group), row.index)
        for group in lab.spec.groups:
            for index in range(1, self._most(lab, group) + 1):
                if member_name(group, index) == node:
                    return Target(lab, group, index)
        return None

    def _most(self, lab: LabRecord, group: Group) -> int:
        """The highest number a server may have: one more for each that is lost."""
        return most_servers(group) + (len(self._lost(lab)) if group.scaling else 0)

    def _lost(self, lab: LabRecord) -> frozenset[str]:
        """Asked only of drivers that can lose one: the question may take a while."""
        can_lose = self._core.driver(lab).capabilities().members
        return self._room.look(lab).lost if can_lose else frozenset()

    def row(self, target: Target) -> ServerRecord:
        """The server as the registry has it; raises NotFound for one that was never made."""
        return self._core.servers.get(target.lab.name, target.name)

    def on(self, target: Target, *, by_scaler: bool) -> None:
        """Turn it on, creating it if need be; returns when it was told to boot. A standby node is
        resumed.

        Raises Conflict above the maximum or when the lab should not be up.
        """

        def check(lab: LabRecord, row: ServerRecord | None, seen: Seen) -> None:
            self._check_room(lab, target, seen)
            if not by_scaler:
                self._raise_count(lab, target.group)

        self._boot(target, Wanted.ON, check)

    def standby(self, target: Target) -> None:
        """Want it as a standby node: boot it if it is off, creating it if need be; leave it as it
        is if it runs. `pause_standby` is for when it is healthy.

        Raises Conflict above `scaling.standby`, for one that the minimum needs, or when the lab
        should not be up.
        """
        scaling = self._scaling(target)

        def check(lab: LabRecord, row: ServerRecord | None, seen: Seen) -> None:
            if self._count(lab, target.group, seen.lost, Wanted.STANDBY) >= scaling.standby:
                raise Conflict(
                    f"group {target.group.name!r} keeps {scaling.standby} standby nodes",
                    "raise scaling.standby in lab.yaml, then labctl up",
                )
            if row is not None and row.wanted is Wanted.ON:
                self._check_spare(lab, target.group, scaling, seen.lost)

        self._boot(target, Wanted.STANDBY, check)

    def _boot(self, target: Target, wanted: Wanted, check: Check) -> None:
        """Want it so, after `check` unless it is so already, and see to it. Raises Conflict."""
        seen = self._room.look(target.lab)
        ssh = self._core.driver(target.lab).capabilities().access == "ssh"
        moved: tuple[Moved, ...] = ()
        with self._core.database.transaction():
            lab = self._check_up(target.lab.name)
            group, index = target.group, target.index
            row = self._core.servers.find(lab.name, target.name)
            if row is None or row.wanted is not wanted:
                check(lab, row, seen)
                moved = self._core.ports.lease(lab.spec, group, index, lab.slot, ssh=ssh)
                row = self._core.servers.add(lab.name, group.name, index, target.name)
                self._core.servers.want(row, wanted)
            elif wanted is Wanted.ON and not self._room.may_boot(lab, row, seen):
                raise self._too_many(group, self._scaling(target))
        self._core.tell_moved(lab.name, moved)
        began = self._core.clock.monotonic()

        def created() -> None:
            seconds = self._core.clock.monotonic() - began
            self._core.events.publish_gate(lab.name, row.name, "created", seconds)

        self._operations.ensure_on(lab, row, created=created)

    def _check_up(self, name: str) -> LabRecord:
        lab = self._core.labs.get(name)
        if lab.desired is not Desired.UP:
            raise Conflict(f"lab {name!r} is not to be up", f"labctl up --lab {name}")
        return lab

    def _check_room(self, lab: LabRecord, target: Target, seen: Seen) -> None:
        """Whether one more may join: what is on its way out counts as long as it may run."""
        scaling = target.group.scaling
        if scaling and not self._room.is_left(lab, target.group, seen, besides=target.name):
            raise self._too_many(target.group, scaling)

    def _raise_count(self, lab: LabRecord, group: Group) -> None:
        if group.scaling is None:
            return
        wish = self._core.labs.wishes(lab.name)[group.name]
        if wish.desired_count >= group.scaling.max:
            raise self._too_many(group, group.scaling)
        self._core.labs.set_wish(lab.name, group.name, GroupWish(wish.desired_count + 1, wish.mode))

    def _too_many(self, group: Group, scaling: Scaling) -> Conflict:
        return Conflict(
            f"group {group.name!r} has its maximum of {scaling.max}",
            "raise scaling.max in lab.yaml, then labctl up",
        )

    def _check_spare(
        self, lab: LabRecord, group: Group, scaling: Scaling, lost: frozenset[str]
    ) -> None:
        if self._count(lab, group, lost, Wanted.ON) <= scaling.min:
            raise self._too_few(group, scaling)

    def _count(self, lab: LabRecord, group: Group, lost: frozenset[str], wanted: Wanted) -> int:
        rows = (s for s in self._core.servers.of(lab.name) if s.group == group.name)
        return sum(s.wanted is wanted and s.id not in lost for s in rows)

    def _scaling(self, target: Target) -> Scaling:
        if target.group.scaling is None:
            raise Forbidden(f"group {target.group.name!r} is not scaled")
        return target.group.scaling

    def off(self, target: Target, *, by_scaler: bool) -> None:
        """Turn it off; a person's call on a scaled group returns when the scaler has drained it.

        Raises Conflict below the minimum, when the scaler does not answer, or when the lab is not
        to be up (scaler only), and for a person who turns a standby node off; TimedOut.
        """
        row = self._core.servers.find(target.lab.name, target.name)
        if row is None:
            return
        if by_scaler:
            self._off_by_scaler(target)
        elif target.group.scaling is None or target.lab.desired is not Desired.UP:
            self._core.servers.want(row, Wanted.OFF)
            self._operations.power_off(target.lab, row)
        else:
            self._off_by_person(target, target.group.scaling)

    def _off_by_scaler(self, target: Target) -> None:
        scaling = self._scaling(target)
        lost = self._lost(target.lab)
        with self._core.database.transaction():
            lab = self._check_up(target.lab.name)
            row = self.row(target)
            if row.wanted is Wanted.ON and row.id not in lost:
                self._check_spare(lab, target.group, scaling, lost)
            self._core.servers.want(row, Wanted.OFF)
        self._operations.power_off(lab, row)
        if scaling.removal == "destroy":
            self._operations.remove(lab, row)

    def _off_by_person(self, target: Target, scaling: Scaling) -> None:
        name = target.lab.name
        heard = self._heard.get(name, self._started)
        if self._core.clock.monotonic() - heard > SCALER_SILENT_S:
            raise Conflict(
                f"the scaler of lab {name!r} does not answer, so nobody would drain {target.name}",
                "labctl up repairs it; labctl kill turns the server off at once",
            )
        with self._core.database.transaction():
            row = self.row(target)
            if row.wanted is Wanted.STANDBY:
                raise self._stands_by(target)
            wish = self._core.labs.wishes(name)[target.group.name]
            if row.wanted is Wanted.ON:
                if wish.desired_count <= scaling.min:
                    raise self._too_few(target.group, scaling)
                self._core.servers.want(row, Wanted.OFF)
                self._core.labs.set_wish(
                    name, target.group.name, GroupWish(wish.desired_count - 1, wish.mode)
                )
        self._wait_off(target.lab, row, scaling.drain_s + DRAIN_MARGIN_S)

    def _too_few(self, group: Group, scaling: Scaling) -> Conflict:
        return Conflict(
            f"group {group.name!r} has its minimum of {scaling.min}",
            "lower scaling.min in lab.yaml, then labctl up; labctl kill makes a fault instead",
        )

    def _stands_by(self, target: Target) -> Conflict:
        return Conflict(
            f"{target.lab.name}/{target.name} is a standby node: it serves nothing",
            "lower scaling.standby in lab.yaml, then labctl up",
        )

    def _wait_off(self, lab: LabRecord, row: ServerRecord, limit_s: float) -> None:
        driver = self._core.driver(lab)

        def probe() -> None:
            state = ask(driver, row).state
            if state not in OFF:
                raise NotYet(f"it is {state}")

        wait_until(
            probe,
            name=f"the scaler to drain and turn off {lab.name}/{row.name}",
            limit_s=limit_s,
            clock=self._core.clock,
            hint=f"labctl logs control --lab {lab.name}; it stays wanted off",
            interval_s=POLL_S,
        )

    def act(self, target: Target, action: str) -> None:
        """`pause`, `resume` or `kill`; no wish is changed. Raises NotFound, Conflict."""
        row = self.row(target)
        if action == "pause":
            self._operations.pause(target.lab, row)
        elif action == "resume":
            self._operations.resume(target.lab, row)
        elif action == "kill":
            self._operations.power_off(target.lab, row, force=True)
        else:
            raise UsageProblem(f"unknown action {action!r}", "known: pause, resume, kill")

    def pause_standby(self, target: Target) -> None:
        """Freeze a standby node. Raises Conflict for any other."""
        self._operations.pause(target.lab, self.row(target), only=Wanted.STANDBY)

    def delete(self, target: Target) -> None:
        """Remove a server that is wanted off, and forget it. Raises Conflict for others."""
        row = self.row(target)
        if target.lab.is_adopted:
            raise Conflict(
                f"{target.lab.name}/{target.name} is an adopted machine: labctl never removes it",
                "labctl adopt with those that are to stay releases the others",
            )
        if row.wanted is Wanted.STANDBY and target.lab.desired is Desired.UP:
            raise self._stands_by(target)
        if row.wanted is Wanted.ON and target.lab.desired is Desired.UP:
            raise Conflict(
                f"{target.lab.name}/{target.name} is wanted on", f"labctl stop {target.name} first"
            )
        self._operations.remove(target.lab, row)
