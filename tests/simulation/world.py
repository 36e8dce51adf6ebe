"""One simulation: a seed becomes a lab, a load, faults, and a verdict."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import random
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labcore.codec import encode
from labcore.errors import LabError
from labcore.wire.lab import Desired, Lab, LabState, PowerState
from server_manager.drivers.base import ServerRef
from tests.simulation import faults, invariants, people, replay
from tests.simulation.balancer import SimBalancer
from tests.simulation.hosting import Client, Host
from tests.simulation.invariants import Watch
from tests.simulation.loop import Broken, Loop, Process
from tests.simulation.machines import ON, Agents
from tests.simulation.scaling import Scaler
from tests.simulation.setting import LAB, OTHER, Prober, draw_scaling, groups, other_lab

STRAY = "agent-9"  # looks like one of ours; its number is above every maximum
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own below it, if it is there
UP_LIMIT_S = 120.0
QUIET_LIMIT_S = 600.0
LOOK_S = 0.5
INSIST_S = 4.0
REPLAYED = 0.01  # of all prefixes of the journal; besides those at which a death comes
SILENT_S = 2.0  # between two looks of a scaler in the end, when there is little to be seen
KEPT_EVENTS = 2000
DESIRED = "SELECT desired FROM labs WHERE name = ?"


@dataclass(frozen=True)
class Outcome:
    """What a simulation came to. `broken` is "" if everything held."""

    seed: int
    broken: str
    at_s: float
    events: tuple[str, ...]  # the last ones
    digest: str  # of all events: equal for equal seeds
    fired: Mapping[str, int]  # how often each fault really took effect

    @property
    def line(self) -> str:
        """How to see it again, and what was seen."""
        told = f"{self.broken} at t={self.at_s:.1f} s".replace("\n", " ")
        return f"{sys.executable} -m tests.simulation {self.seed}  # {told}"


class World:
    """All of it. `run` is its life."""

    def __init__(
        self, seed: int, folder: Path, *, calm: bool = False, replayed: float = REPLAYED
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - repeatable is what it should be
        self.calm = calm
        self.replayed = replayed
        self.loop = Loop()
        self.lab = LAB
        self.began = self.loop.now
        self.stray = STRAY
        self.trace: deque[str] = deque(maxlen=KEPT_EVENTS)
        self.digest = hashlib.sha256()
        self.fired: Counter[str] = Counter()
        self.watch = Watch()
        self.person: Process = self.loop.process("a person")
        self.host: Host = Host(folder, self.loop, self.rng, self.note, self.fired)
        self.driver = self.host.driver
        self.balancer = SimBalancer(
            self.loop.clock,
            reload_s=self.rng.choice((0.1, 0.3, 1.0)),
            linger_s=self.rng.choice((0.2, 1.0, 4.0)),
            fired=self.fired,
        )
        self.client = Client(self.host, LAB, self.fired)
        self.scaler: Scaler = Scaler(
            LAB, self.loop, self.rng, self.client, self.balancer, self.fired
        )
        self.agents = Agents(
            LAB, self.loop, self.rng, self.driver, self.balancer.reached, self.fired
        )
        self.scaler.agents = self.agents
        self.host.prober = Prober(self)
        self.scaling = draw_scaling(self.rng, faults.certain(seed).provokes)
        self.file: Mapping[str, object] = {}
        self.control_was_on = False
        self.may_befall = True
        self._desired = -1, Desired.DESTROYED  # when it was looked at, counted in writes; and it
        self._wire()

    def _wire(self) -> None:
        self.scaler.note = self.client.note = self.note
        self.scaler.on_start = lambda: self.watch.scaler_starts(self.scaler.store.saved)
        self.scaler.on_begin = lambda operation: self.watch.begins(self, operation)
        self.scaler.on_post = self.watch.told
        self.scaler.may_start = self.control_runs
        self.driver.changed = self.follow_control
        self.host.effect_watch = self._effect
        self.host.on_start = self.check_replay
        self.host.on_written = self._written

    def _effect(self, operation: str, ref: ServerRef) -> None:
        cause = self.loop.current.cause if self.loop.current else "nobody"
        self.note(f"driver: {operation} {ref.lab}/{ref.name} ({cause})")
        self.watch.effect(self, operation, ref, cause)

    def note(self, text: str) -> None:
        """Add to the trace."""
        line = f"{self.loop.now - self.began:8.2f} {text}"
        self.trace.append(line)
        self.digest.update(line.encode())

    # ------------------------------------------------------------------ what is true

    def loaded(self) -> frozenset[str]:
        """The nodes in the configuration that nginx has loaded."""
        return self.balancer.loaded()

    @property
    def is_dark(self) -> bool:
        """Whether nginx does not run."""
        return self.balancer.faults.down

    @property
    def desired(self) -> Desired:
        """What the lab should become, as the registry on the disk has it."""
        if self.host.disk.total_changes != self._desired[0]:
            row = self.host.disk.execute(DESIRED, (LAB,)).fetchone()
            wish = Desired(row["desired"]) if row else Desired.DESTROYED
            self._desired = self.host.disk.total_changes, wish
        return self._desired[1]

    @property
    def wished(self) -> tuple[int, str]:
        """The count of agents and the mode, as the registry on the disk has them."""
        sql = "SELECT desired_count, mode FROM groups WHERE lab = ? AND name = 'agent'"
        row = self.host.disk.execute(sql, (LAB,)).fetchone()
        return (row["desired_count"], row["mode"]) if row else (self.scaling.min, "manual")

    def control_runs(self) -> bool:
        """Whether the control node is on."""
        return self.driver.truth(LAB, "control") is PowerState.RUNNING

    def follow_control(self) -> None:
        """Scaler and nginx live and die with their node."""
        if not self.control_runs():
            self.scaler.kill()
            self.balancer.faults.down = True
        elif not self.control_was_on:
            self.scaler.start()
            self.balancer.restart()
        self.control_was_on = self.control_runs()

    def start_nginx(self) -> None:
        """Start it after its death, if its node is on."""
        if self.control_runs() and self.is_dark:
            self.balancer.restart()

    def names(self) -> list[str]:
        """The agents that there are, or were."""
        return [n for n in self.driver.names(LAB) if n.startswith("agent-") and n != STRAY]

    def running(self) -> list[str]:
        """The agents of ours that are on, in whatever way."""
        return [n for n in self.names() if self.driver.truth(LAB, n) in ON]

    def wanted(self) -> dict[str, str]:
        """What the agents should be, as the registry on the disk has it."""
        rows = self.host.disk.execute("SELECT name, wanted FROM servers WHERE lab = ?", (LAB,))
        return {row["name"]: row["wanted"] for row in rows if row["name"].startswith("agent-")}

    def seen(self) -> Lab | None:
        """The lab as the server-manager would tell it, if it lives."""
        if self.host.process is None or not self.host.process.alive:
            return None
        try:
            return self.host.manager.lab(LAB)
        except (LabError, RuntimeError):
            return None

    def check_replay(self) -> None:
        """What a server-manager that starts now makes of the disk. Raises Broken."""
        why = replay.broken_replay(self)
        if why:
            raise Broken(why)

    def _written(self) -> None:
        if self.rng.random() < self.replayed:
            self.check_replay()

    def check_dry_run(self, plan: Callable[[], object]) -> None:
        """Of a task: dry-run changes nothing. Raises Broken."""
        if self.driver.may_hang:
            return  # others would change something meanwhile
        disk = self.host.disk
        servers = {k: (s.on_since, s.paused) for k, s in self.driver._servers.items()}
        before = disk.total_changes
        plan()
        after = {k: (s.on_since, s.paused) for k, s in self.driver._servers.items()}
        if disk.total_changes != before or servers != after:
            raise Broken("dry-run changes nothing: it did")

    # ------------------------------------------------------------------ its life

    def run(self) -> Outcome:
        """Live. What breaks is in the outcome; errors of the simulation itself are raised."""
        broken = ""
        try:
            self._live()
        except Broken as error:
            broken = str(error)
        at_s = self.loop.now - self.began
        self.loop.close()
        self.host.disk.close()
        return Outcome(
            self.seed, broken, at_s, tuple(self.trace), self.digest.hexdigest(), self.fired
        )

    def _live(self) -> None:
        self._stand_up()
        self.scaler.on_step = lambda: self.watch.check(self)
        self.driver.changed = self._changed
        length = self.rng.uniform(15.0, 40.0)
        for at, fault in faults.draw(self.rng, length, calm=self.calm):
            self.loop.later(at, lambda f=fault: self._befall(f))  # type: ignore[misc]
        if not self.calm:
            self._insist(faults.certain(self.seed), self.rng.uniform(0.0, length / 3))
        self.loop.run(self.loop.now + length)
        self.may_befall = False
        self.note("the faults end")
        faults.end(self)
        self.loop.run(self.loop.now + 5.0)  # what people had asked for before is done meanwhile
        faults.end(self)
        self.scaler.pace.quiet_s = SILENT_S
        self.loop.spawn(self.person, self._mend, cause="person")
        self._fall_silent()
        self.check_replay()
        self._destroy()

    def _changed(self) -> None:
        self.follow_control()
        self.watch.check(self)

    def _mend(self) -> None:
        """Of a person: `labctl up`, until the lab is to be up and its control node runs; and
        nothing stays paused, though what was asked for before may be done as late as now."""
        is_up = False
        while True:
            self.loop.sleep(2.0)
            faults.thaw(self)
            lab = None if is_up else self.seen()
            if lab is None or lab.state is LabState.CONVERGING:
                continue
            is_up = lab.desired is Desired.UP and self.control_runs()
            if is_up:
                continue
            with suppress(LabError):
                self.host.call(lambda: self.host.manager.put(LAB, self.file), cause="person")

    def _befall(self, fault: faults.Fault) -> None:
        if not self.may_befall:
            return
        text = fault.begin(self)
        if text:
            self.note(f"fault: {text}")
            if fault.provokes:
                people.provoke(self, fault.provokes)
        self._changed()

    def _insist(self, fault: faults.Fault, delay: float) -> None:
        """Let it befall, and then give it occasions until it has taken effect."""
        before = self.fired[fault.fires]

        def begin() -> None:
            self._befall(fault)
            self.loop.later(INSIST_S, again)

        def again() -> None:
            if self.may_befall and self.fired[fault.fires] == before:
                begin()

        self.loop.later(delay, begin)

    def _stand_up(self) -> None:
        before = other_lab()
        self.host.disk.deserialize(before.disk)
        self.driver.put_in(before.servers)
        self.host.start()
        count = self.rng.randint(self.scaling.min, self.scaling.max)
        written: dict[str, object] = encode(self.scaling)
        written["out"], written["in"] = written.pop("out_above"), written.pop("in_below")
        self._wish({"scaling": {**written, "mode": self._mode()}, "groups": groups(count)})
        self._add_stray()
        self.agents.app_s = self.rng.choice((0.2, 0.5, 1.0))
        self.driver.takes_s = self.rng.choice(((0.02, 0.2), (0.1, 1.0), (0.5, 3.0)))
        self.watch.begin(self)

    def _mode(self) -> str:
        return self.rng.choice(("auto", "auto", "manual"))

    def _add_stray(self) -> None:
        """A server that somebody else made and that looks like one of ours."""
        ref = ServerRef(LAB, STRAY, "somebody-elses")
        stray = next(s for (of, name), s in self.driver._servers.items() if of == OTHER)
        spec = dataclasses.replace(stray.spec, ref=ref, forwards=())
        self.driver._servers[LAB, ref.name] = dataclasses.replace(stray, spec=spec)

    def _wish(self, fields: dict[str, object]) -> None:
        """`labctl up`, to its end."""
        self.file = {"lab": LAB, "driver": "fake", **fields}

        def put() -> None:
            self.host.call(lambda: self.host.manager.put(LAB, self.file), cause="person")

        self.loop.spawn(self.person, put, cause="person")
        core = self.host.manager.core

        def over() -> bool:
            found = core.labs.find(LAB)
            return found is not None and not found.running

        self.loop.run(self.loop.now + UP_LIMIT_S, self._once_written(over))
        record = core.labs.get(LAB)
        if record.running or record.problem:
            raise Broken(f"a lab without faults comes up: {record.problem}")

    def _once_written(self, is_so: Callable[[], bool]) -> Callable[[], bool]:
        """The same, looked at only when something has been written since."""
        seen = -1

        def over() -> bool:
            nonlocal seen
            before, seen = seen, self.host.disk.total_changes
            return seen != before and is_so()

        return over

    def _fall_silent(self) -> None:
        """Constant load, no faults: run until nothing happens any more, and see that it lasts."""
        limit = self.loop.now + QUIET_LIMIT_S
        rules = self.scaling
        periods = rules.evaluation_periods + 1
        quiet_s = (
            periods * max(rules.interval_s, SILENT_S)
            + max(rules.cooldown_in_s, rules.cooldown_out_s)
            + 4.0
        )

        looked = self.loop.now

        def over() -> bool:
            nonlocal looked
            now = self.loop.now
            if now - self.scaler.last_act < quiet_s or now - looked < LOOK_S:
                return False
            looked = now
            return not invariants.settled(self)

        self.loop.run(limit, over)
        why = invariants.settled(self)
        if why or self.loop.now >= limit:
            raise Broken(f"constant load ends in silence: {why or 'it went on and on'}")

    def _destroy(self) -> None:
        """A lab that is destroyed leaves nothing behind."""

        def ask() -> None:
            self.host.call(lambda: self.host.manager.destroy(LAB), cause="person")

        self.loop.spawn(self.person, ask, cause="person")
        labs = self.host.manager.core.labs
        self.loop.run(
            self.loop.now + UP_LIMIT_S, self._once_written(lambda: labs.find(LAB) is None)
        )
        left = [name for name in self.driver.names(LAB) if name != STRAY]
        if left or self.host.disk.execute("SELECT 1 FROM labs WHERE name = ?", (LAB,)).fetchall():
            raise Broken(f"destroy leaves nothing behind: {' '.join(left)}")


def simulate(seed: int, *, calm: bool = False, replayed: float = REPLAYED) -> Outcome:
    """Run one seed. `calm`: without faults. `replayed` is the share of all prefixes of the journal
    from which a server-manager is started on the side, to see what it makes of them."""
    root = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    logging.disable(logging.CRITICAL)  # thousands of planned failures
    try:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            return World(seed, Path(folder), calm=calm, replayed=replayed).run()
    finally:
        logging.disable(logging.NOTSET)
