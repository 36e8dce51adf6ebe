"""A whole lab: brings it up, powers it off, removes it, and tells every gate on the way."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from labcore.errors import DriverFailed, Interrupted, LabError
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import Desired, Wanted
from labcore.wire.node import SCALER_API_TOKEN
from server_manager.core import Core
from server_manager.operations import Operations
from server_manager.readiness import Readiness
from server_manager.registry import LabRecord, ServerRecord
from server_manager.room import Room
from server_manager.view import View


@dataclass(frozen=True)
class Run:
    """One wish being carried out."""

    lab: str
    number: int
    desired: Desired
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise Interrupted once it was cancelled; asked before anything is begun."""
        if self.cancelled.is_set():
            raise Interrupted(f"lab {self.lab!r}: cancelled", "labctl up goes on, destroy cleans")


class Convergence:
    """What a run does. Each call returns when the wish is true, or raises the first failure."""

    def __init__(self, core: Core, operations: Operations, view: View, room: Room) -> None:
        self._core = core
        self._operations = operations
        self._view = view
        self._room = room
        self._readiness = Readiness(core, operations)

    def up(self, run: Run) -> None:
        """Boot every server that is wanted, side by side; then wait until requests are served."""
        began = self._core.clock.monotonic()
        lab = self._core.labs.get(run.lab)
        rows = [s for s in self._core.servers.of(run.lab) if s.wanted is Wanted.ON]
        seen = self._room.look_or_fear(lab)
        wanted = [s for s in rows if s.id in seen.lost or self._room.may_boot(lab, s, seen)]
        # A lab is of no use without its control nodes: they are begun first.
        wanted.sort(key=lambda s: (lab.spec.group(s.group).role != "control", s.group, s.index))
        bring_up = functools.partial(self._bring_up, run, lab)
        self._each(run, wanted, bring_up, "did not come up")
        self._wait_served(run, lab, began)

    def down(self, run: Run) -> None:
        """Power every server off, side by side."""
        lab = self._core.labs.get(run.lab)
        servers = self._core.servers.of(run.lab)
        off = functools.partial(self._operations.power_off, lab)
        self._each(run, servers, off, "did not power off")

    def destroy(self, run: Run) -> None:
        """Remove every server, then all else of the lab. Goes on past failures, then tells them."""
        lab = self._core.labs.get(run.lab)
        servers = self._core.servers.of(run.lab)
        gone = functools.partial(self._operations.destroy, lab)
        self._each(run, servers, gone, "could not be removed")
        # Files first: after a crash in between the lab is still known, and this runs again.
        self._core.secrets.remove(run.lab)
        with self._core.database.transaction():
            self._core.journal.forget(run.lab)
            self._core.labs.remove(run.lab)

    def _each(
        self,
        run: Run,
        servers: Sequence[ServerRecord],
        work: Callable[[ServerRecord], None],
        what: str,
    ) -> None:
        """Do it to all, side by side; then raise one error that speaks for all that failed."""
        tasks = [functools.partial(self._one, run, server, work) for server in servers]
        errors = self._core.executor.gather(tasks)
        run.check()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise DriverFailed(
                f"{len(errors)} servers {what}: {errors[0].message}",
                errors[0].hint,
                tuple(error.message for error in errors),
            )

    def _one(self, run: Run, server: ServerRecord, work: Callable[[ServerRecord], None]) -> None:
        run.check()
        try:
            work(server)
        except Interrupted:
            raise
        except LabError as error:
            self._core.events.publish_problem(error, server.lab, server.name)
            raise

    def _bring_up(self, run: Run, lab: LabRecord, server: ServerRecord) -> None:
        began = self._core.clock.monotonic()

        def gate(name: str) -> None:
            seconds = self._core.clock.monotonic() - began
            self._core.events.publish_gate(server.lab, server.name, name, seconds)

        self._operations.ensure_on(lab, server, created=lambda: gate("created"))
        self._readiness.wait(lab, server, run.check, gate)

    def _wait_served(self, run: Run, lab: LabRecord, began: float) -> None:
        """Until the scaler says that the wanted backends serve, and one request was answered."""
        routed = {route.to for balancer in lab.spec.balancers for route in balancer.routes}
        scaled = any("scaler" in group.services for group in lab.spec.groups)
        if not routed or not scaled:
            return

        told: set[str] = set()

        def probe() -> None:
            run.check()
            now = self._view.lab(self._core.labs.get(lab.name))
            if now.scaler_url is None or now.load_balancer_url is None:
                raise NotYet("the control node has no address yet")
            token = self._core.secrets.one(lab.name, SCALER_API_TOKEN)
            for group in (g for g in now.groups if g.name in routed):
                on = frozenset(s.name for s in now.members(group.name) if s.wanted is Wanted.ON)
                serving = self._core.prober.serving(now.scaler_url, token, on)
                # The scaler tells this of newcomers; of those that served before, nobody did.
                for node in sorted(serving - told):
                    seconds = self._core.clock.monotonic() - began
                    self._core.events.publish_gate(lab.name, node, "serving", seconds)
                told.update(serving)
                if len(serving) < group.desired_count:
                    missing = ", ".join(sorted(on - serving)) or "not all made yet"
                    raise NotYet(f"group {group.name} is not in rotation: {missing}")
            refused = self._core.prober.refused(now.load_balancer_url + "/")
            if refused:
                raise NotYet(refused)

        wait_until(
            probe,
            name=f"lab {lab.name} to serve requests",
            limit_s=self._core.boot_limit_s(lab),
            clock=self._core.clock,
            hint=f"labctl logs control --lab {lab.name}",
            interval_s=self._core.driver(lab).capabilities().look_s,
        )
