"""The use cases of a whole lab, as plain methods: what the HTTP API and the simulator call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from labcore.clock import rfc3339
from labcore.codec import encode
from labcore.errors import Conflict, DriverUnusable, LabError, UsageProblem
from labcore.wire.lab import Desired, Group, Lab, Mode, Scaling, Wanted
from server_manager.adoption import Adoptions, check_size
from server_manager.convergence import Convergence
from server_manager.core import Core
from server_manager.images.images import Images
from server_manager.journal import unfinished
from server_manager.labspec import LabSpec, check_change, from_file, member_name
from server_manager.operations import Observer, Operations
from server_manager.plan import Step, steps_of_file, steps_of_lab
from server_manager.power import Power
from server_manager.registry import Adoption, GroupWish, LabRecord, ServerRecord
from server_manager.room import Room, Seen
from server_manager.runs import Runs
from server_manager.view import View


class Manager:
    """Labs. What is about one server is in `power`, what only reads in `view`."""

    def __init__(self, core: Core, observer: Observer = lambda *_: None) -> None:
        self.core = core
        self.operations = Operations(core, observer)
        self.view = View(core, self.operations)
        self._room = Room(core, self.operations)
        self.runs = Runs(core, Convergence(core, self.operations, self.view, self._room))
        self.power = Power(core, self.operations, self._room)
        self.images = Images(core)
        self.adoptions = Adoptions(core, self.operations, self.runs)

    def recover(self) -> None:
        """Finish what the process before this one had begun. Call once, before serving."""
        pending = unfinished(self.core.journal.entries())
        for entry in self.core.journal.entries():
            if entry.state == "begun":
                self.core.journal.end(entry.seq, "the server-manager ended meanwhile")
        self.images.recover()
        for lab in self.core.labs.all():
            if lab.running:
                self.runs.go_on(lab)
        for entry in pending:
            server = self.core.servers.find(entry.lab, entry.node)
            found = self.core.labs.find(entry.lab)
            if server is not None and found is not None and not found.running:
                self._finish(found, server, entry.operation)

    def _finish(self, lab: LabRecord, server: ServerRecord, operation: str) -> None:
        """Make one server what it is wanted to be, in the background. One whose adoption is not
        finished is left as it is: only labctl can go on there.

        One that is to go and was not being turned off yet is left to the scaler, if there is one:
        it may serve, and nobody else drains it.
        """
        if lab.adoption is Adoption.BEGUN:
            return
        is_up = lab.desired is Desired.UP
        is_drained = operation in ("stop", "kill", "destroy")

        def work() -> None:
            try:
                if is_up and server.wanted is not Wanted.OFF:
                    self.operations.ensure_on(lab, server)
                elif not is_up or is_drained or lab.spec.group(server.group).scaling is None:
                    self.operations.power_off(lab, server)
            except LabError as error:
                self.core.events.publish_problem(error, lab.name, server.name)

        self.core.executor.start(f"finish-{lab.name}-{server.name}", work)

    def put(self, name: str, data: object) -> int:
        """Wish for a lab as a lab file (JSON, driver resolved) describes it; the run's number.

        A lab that stands takes over what can change and keeps its counts. Raises UsageProblem,
        DriverUnusable, and Conflict for what cannot change or while another wish is carried out.
        """
        spec = from_file(data, name)
        self._check_driver(spec)
        spec = self._with_image(spec)
        ssh = self.core.drivers.of(spec).capabilities().access == "ssh"
        before = self.core.labs.find(name)
        seen = Seen() if before is None else self._room.look_or_fear(before)
        with self.core.database.transaction():
            lab = self.core.labs.find(name)
            if lab is not None:
                joined = self._joined(lab, spec)
                if joined is not None:
                    return joined
            lab = self._add(spec) if lab is None else self._change(lab, spec)
            self.core.secrets.of(name)
            moved = self.core.ports.lease_lab(spec, lab.slot, ssh=ssh)
            self._add_servers(lab, seen)
            run = self.runs.write(lab, Desired.UP)
        self.core.tell_moved(name, moved)
        self.runs.start(run)
        return run.number

    def _with_image(self, spec: LabSpec) -> LabSpec:
        """A lab that stands keeps the image that it was made from."""
        lab = self.core.labs.find(spec.lab)
        if lab is not None and lab.spec.file.get("image") == spec.image:
            return dataclasses.replace(spec, image=lab.spec.image)
        return dataclasses.replace(spec, image=self.images.choose(spec.driver, spec.image))

    def _check_driver(self, spec: LabSpec) -> None:
        health = self.core.drivers.of(spec).health()
        if not health.ok:
            raise DriverUnusable(f"driver {spec.driver!r}: {health.reason}", health.fix)
        self._check_standby(spec)

    def _check_standby(self, spec: LabSpec) -> None:
        wants = [group.name for group in spec.groups if group.scaling and group.scaling.standby]
        if wants and not self.core.drivers.of(spec).capabilities().pause:
            raise UsageProblem(
                f"group {wants[0]!r} is to keep standby nodes, but driver {spec.driver!r} cannot"
                " pause servers",
                "set scaling.standby to 0 in lab.yaml",
            )

    def _joined(self, lab: LabRecord, spec: LabSpec) -> int | None:
        if lab.desired is Desired.DESTROYED:
            raise Conflict(
                f"lab {lab.name!r} is being destroyed", f"labctl destroy --lab {lab.name} ends it"
            )
        joined = self.runs.joined(lab, Desired.UP)
        if joined is not None and encode(spec) != encode(lab.spec):
            raise Conflict(
                f"lab {lab.name!r}: `up` of another lab file is still running",
                "wait for its end, or press Ctrl-C where it was begun",
            )
        return joined

    def _add(self, spec: LabSpec) -> LabRecord:
        self.core.events.forget(spec.lab)
        return self.core.labs.add(spec, rfc3339(self.core.clock.now()))

    def _change(self, lab: LabRecord, spec: LabSpec) -> LabRecord:
        check_size(lab, spec, self.core.servers.of(lab.name))
        check_change(lab.spec, spec)
        before = {group.name: group for group in lab.spec.groups}
        wishes = self.core.labs.wishes(lab.name)
        self.core.labs.set_spec(spec)
        for group in spec.groups:
            wish = new_wish(before.get(group.name), group, wishes.get(group.name))
            self.core.labs.set_wish(lab.name, group.name, wish)
        return self.core.labs.get(lab.name)

    def _add_servers(self, lab: LabRecord, seen: Seen) -> None:
        """Want as many servers of each group as are wished for: the lowest free numbers. A standby
        node whose number it is joins. For what still leaves, its scaler makes others later."""
        wishes = self.core.labs.wishes(lab.name)
        for group in lab.spec.groups:
            rows = [s for s in self.core.servers.of(lab.name) if s.group == group.name]
            on = {s.index for s in rows if s.wanted is Wanted.ON}
            index = 1
            wished = wishes[group.name].desired_count
            while len(on) < wished and self._room.is_left(lab, group, seen):
                if index not in on:
                    name = member_name(group, index)
                    row = self.core.servers.add(lab.name, group.name, index, name)
                    self.core.servers.want(row, Wanted.ON)
                    on.add(index)
                index += 1

    def down(self, name: str) -> int:
        """Wish for a lab's power to be off; the run's number. Raises NotFound and Conflict."""
        return self._wish(name, Desired.DOWN)

    def destroy(self, name: str) -> int:
        """Wish for a lab to be gone; the run's number. Raises NotFound and Conflict."""
        return self._wish(name, Desired.DESTROYED)

    def _wish(self, name: str, desired: Desired) -> int:
        with self.core.database.transaction():
            lab = self.core.labs.get(name)
            joined = self.runs.joined(lab, desired)
            if joined is not None:
                return joined
            if lab.desired is Desired.DESTROYED and desired is not Desired.DESTROYED:
                raise Conflict(
                    f"lab {name!r} is half destroyed", f"labctl destroy --lab {name} ends it"
                )
            run = self.runs.write(lab, desired)
        self.runs.start(run)
        return run.number

    def cancel(self, name: str) -> None:
        """Let the run of a lab begin nothing more; it ends as `cancelled`. Raises NotFound."""
        self.core.labs.get(name)
        self.runs.cancel(name)

    def lab(self, name: str) -> Lab:
        """One lab; raises NotFound."""
        return self.view.lab(self.core.labs.get(name))

    def labs(self) -> tuple[Lab, ...]:
        """All labs."""
        return tuple(self.view.lab(lab) for lab in self.core.labs.all())

    def plan(self, name: str, data: object = None) -> tuple[Step, ...]:
        """What `up` would do to each server; `data` is a lab file, None: the lab's own."""
        if data is None:
            return steps_of_lab(self.lab(name))
        spec = from_file(data, name)
        self._check_standby(spec)
        lab = self.core.labs.find(name)
        if lab is None:
            return steps_of_file(spec)
        check_size(lab, spec, self.core.servers.of(name))
        check_change(lab.spec, spec)
        return steps_of_lab(self.view.lab(lab))

    def set_group(
        self, name: str, group: str, desired_count: int | None, mode: Mode | None
    ) -> GroupWish:
        """Write a wish for a scaled group. Raises Conflict outside min..max, NotFound."""
        with self.core.database.transaction():
            lab = self.core.labs.get(name)
            scaling = lab.spec.group(group).scaling
            if scaling is None:
                raise Conflict(f"group {group!r} has a fixed size", "give it `scaling` in lab.yaml")
            wish = self.core.labs.wishes(name)[group]
            count = wish.desired_count if desired_count is None else desired_count
            if not scaling.min <= count <= scaling.max:
                raise Conflict(
                    f"{count} is outside {scaling.min}..{scaling.max} of group {group!r}",
                    "change scaling.min or scaling.max in lab.yaml, then labctl up",
                )
            wish = GroupWish(count, mode or wish.mode)
            self.core.labs.set_wish(name, group, wish)
        return wish


def new_wish(before: Group | None, group: Group, wish: GroupWish | None) -> GroupWish:
    """The wish for a group after its lab file changed: the count is kept within the new bounds,
    and so is the mode, unless the file itself says another one than before. Pure.
    """
    if before is None or wish is None:
        return GroupWish(group.desired_count, group.mode)
    mode = wish.mode if before.mode == group.mode else group.mode
    return GroupWish(_within(group.scaling, wish.desired_count), mode)


def _within(scaling: Scaling | None, count: int) -> int:
    return count if scaling is None else max(scaling.min, min(scaling.max, count))


def driver_list(core: Core, images: Images, only: str | None) -> list[Mapping[str, object]]:
    """Every driver (or only that one), whether it can be used here, what it can do, and from
    which images."""
    listed: list[Mapping[str, object]] = []
    for name in core.drivers.names:
        if only not in (None, name):
            continue
        try:
            driver = core.drivers.get(name)
            health = driver.health()
            told = {**encode(health), "capabilities": encode(driver.capabilities())}
            told["images"] = list(images.ready(name)) if driver.capabilities().images else []
        except LabError as error:
            told = {"ok": False, "version": "", "reason": error.message, "fix": error.hint}
            told |= {"capabilities": None, "images": []}
        listed.append({"name": name, **told})
    return listed
