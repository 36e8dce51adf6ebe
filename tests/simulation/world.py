"""One simulation: a seed becomes a lab, a load, faults, and a verdict."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import random
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from control_node.balancer.fake import FakeBalancer
from control_node.balancer.model import View
from labcore.clock import FakeClock
from labcore.codec import decode, encode
from labcore.errors import LabError
from labcore.services import Service
from labcore.wire.lab import Desired, Lab, LabState, PowerState, Scaling
from labcore.wire.scaler import BalancerStatus, ScalerStatus
from server_manager.drivers.base import ServerRef, ServerSpec
from server_manager.drivers.fake import FakeDriver
from server_manager.executors import Inline
from server_manager.manager import Manager
from server_manager.probes import FakeProber
from tests.simulation import faults, invariants, replay
from tests.simulation.hosting import Client, Disk, Host, SimDatabase, make_core, new_disk
from tests.simulation.invariants import Broken, Watch
from tests.simulation.loop import Loop, Process
from tests.simulation.machines import ON, Agents
from tests.simulation.scaling import Scaler

LAB, OTHER = "demo", "other"
STRAY = "agent-9"  # looks like one of ours; its number is above every maximum
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own below it, if it is there
UP_LIMIT_S = 120.0
QUIET_LIMIT_S = 600.0
KEPT_EVENTS = 2000


@dataclass(frozen=True)
class Outcome:
    """What a simulation came to. `broken` is "" if everything held."""

    seed: int
    broken: str
    at_s: float
    events: tuple[str, ...]  # the last ones
    digest: str  # of all events: equal for equal seeds
    told: Mapping[str, int]  # how often each kind of fault befell

    @property
    def line(self) -> str:
        """How to see it again, and what was seen."""
        return f"python -m tests.simulation {self.seed}  # {self.broken} at t={self.at_s:.1f} s"


class SimBalancer(FakeBalancer):
    """While it reloads, old and new workers answer side by side: what answers is not known."""

    def poll(self) -> View:
        """See LoadBalancer."""
        view = super().poll()
        if view.confirmed or self._due_at is None:
            return view
        return dataclasses.replace(view, answered=None, backends=None)

    def loaded(self) -> frozenset[str]:
        """The nodes in the configuration that new requests follow."""
        self._advance()
        if self.faults.down or self._loaded is None:
            return frozenset()
        return frozenset(b.node for m in self._loaded.backends.values() for b in m)


class World:
    """All of it. `run` is its life."""

    def __init__(self, seed: int, folder: Path, calm: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - repeatable is what it should be
        self.calm = calm
        self.loop = Loop()
        self.lab = LAB
        self.began = self.loop.now
        self.stray = STRAY
        self.trace: deque[str] = deque(maxlen=KEPT_EVENTS)
        self.digest = hashlib.sha256()
        self.told: dict[str, int] = {}
        self.watch = Watch()
        self.person: Process = self.loop.process("a person")
        self.host = Host(folder, self.loop, self.rng, self.note)
        self.driver = self.host.driver
        self.balancer = SimBalancer(
            self.loop.clock,
            reload_s=self.rng.choice((0.1, 0.3, 1.0)),
            linger_s=self.rng.choice((0.2, 1.0, 4.0)),
        )
        self.client = Client(self.host, LAB)
        self.scaler = Scaler(LAB, self.loop, self.rng, self.client, self.balancer)
        self.agents = Agents(LAB, self.loop, self.rng, self.driver, self.balancer.reached)
        self.scaler.agents = self.agents
        self.host.prober = Prober(self)
        self.scaling = draw_scaling(self.rng)
        self.file: Mapping[str, object] = {}
        self.control_was_on = False
        self._wire()

    def _wire(self) -> None:
        self.scaler.note = self.client.note = self.note
        self.scaler.on_start = lambda: self.watch.scaler_starts(self.scaler.store.saved)
        self.scaler.on_begin = lambda operation: self.watch.begins(self, operation)
        self.scaler.may_start = self.control_runs
        self.driver.changed = self.follow_control
        self.host.effect_watch = self._effect
        self.host.on_start = self.check_replay

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
        rows = self.host.disk.execute("SELECT desired FROM labs WHERE name = ?", (LAB,)).fetchall()
        return Desired(rows[0]["desired"]) if rows else Desired.DESTROYED

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
            self.seed, broken, at_s, tuple(self.trace), self.digest.hexdigest(), self.told
        )

    def _live(self) -> None:
        self._stand_up()
        self.scaler.on_step = lambda: self.watch.check(self)
        self.driver.changed = self._changed
        length = self.rng.uniform(15.0, 40.0)
        for at, fault in faults.draw(self.rng, length, calm=self.calm):
            self.loop.later(at, lambda f=fault: self._befall(f))  # type: ignore[misc]
        self.loop.run(self.loop.now + length)
        self.note("the faults end")
        faults.end(self)
        self.loop.run(self.loop.now + 5.0)  # what people had asked for before is done meanwhile
        faults.end(self)
        self.loop.spawn(self.person, self._mend, cause="person")
        self._fall_silent()
        self.check_replay()
        self._destroy()

    def _changed(self) -> None:
        self.follow_control()
        self.watch.check(self)

    def _mend(self) -> None:
        """Of a person: `labctl up`, until the lab is to be up and its control node runs."""
        while True:
            self.loop.sleep(2.0)
            lab = self.seen()
            if lab is None or lab.state is LabState.CONVERGING:
                continue
            if lab.desired is Desired.UP and self.control_runs():
                return
            with suppress(LabError):
                self.host.call(lambda: self.host.manager.put(LAB, self.file), cause="person")

    def _befall(self, fault: faults.Fault) -> None:
        text = fault(self)
        if text:
            kind = fault.__name__
            self.told[kind] = self.told.get(kind, 0) + 1
            self.note(f"fault: {text}")
        self._changed()

    def _stand_up(self) -> None:
        before = _other_lab()
        self.host.disk.deserialize(before.disk)
        self.driver.put_in(before.servers)
        self.host.start()
        count = self.rng.randint(self.scaling.min, self.scaling.max)
        written: dict[str, object] = encode(self.scaling)
        written["out"], written["in"] = written.pop("out_above"), written.pop("in_below")
        self._wish({"scaling": {**written, "mode": self._mode()}, "groups": _groups(count)})
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

        self.loop.run(self.loop.now + UP_LIMIT_S, over)
        record = core.labs.get(LAB)
        if record.running or record.problem:
            raise Broken(f"a lab without faults comes up: {record.problem}")

    def _fall_silent(self) -> None:
        """Constant load, no faults: run until nothing happens any more, and see that it lasts."""
        limit = self.loop.now + QUIET_LIMIT_S
        rules = self.scaling
        periods = rules.evaluation_periods + 1
        quiet_s = periods * rules.interval_s + max(rules.cooldown_in_s, rules.cooldown_out_s) + 4.0

        def over() -> bool:
            is_quiet = self.loop.now - self.scaler.last_act >= quiet_s
            return is_quiet and not invariants.settled(self)

        self.loop.run(limit, over)
        why = invariants.settled(self)
        if why or self.loop.now >= limit:
            raise Broken(f"constant load ends in silence: {why or 'it went on and on'}")

    def _destroy(self) -> None:
        """A lab that is destroyed leaves nothing behind."""

        def ask() -> None:
            self.host.call(lambda: self.host.manager.destroy(LAB), cause="person")

        self.loop.spawn(self.person, ask, cause="person")
        self.loop.run(self.loop.now + UP_LIMIT_S, lambda: self.seen() is None)
        left = [name for name in self.driver.names(LAB) if name != STRAY]
        if left or self.host.disk.execute("SELECT 1 FROM labs WHERE name = ?", (LAB,)).fetchall():
            raise Broken(f"destroy leaves nothing behind: {' '.join(left)}")


class Prober:
    """server_manager.probes.Prober: asks the agents and the scaler of the simulation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._travelled = ScalerStatus(LAB, "", False, BalancerStatus(None, {}), (), ())

    def unhealthy(self, services: tuple[Service, ...], endpoints: Mapping[str, str]) -> str:
        """See Prober."""
        node = self._world.driver.node_at(LAB, next(iter(endpoints.values())))
        if node is None:
            return ""  # of the other lab: always well
        if "app" not in endpoints:
            return "" if self._world.scaler.alive else "no scaler yet"
        reply = self._world.agents.health(node)
        return "" if reply.status == 200 else reply.reason or "unwell"

    def serving(self, scaler_url: str, token: str, nodes: frozenset[str]) -> frozenset[str]:
        """See Prober."""
        world = self._world
        if world.driver.node_at(LAB, scaler_url) is None:
            return nodes
        if not world.scaler.alive:
            return frozenset()
        status = world.scaler.desk.status()
        if status.balancer.backends != self._travelled.balancer.backends:
            self._travelled = decode(ScalerStatus, encode(status))
        backends = self._travelled.balancer.backends
        return nodes.intersection(n for group in backends.values() for n in group)

    def refused(self, url: str) -> str:
        """See Prober."""
        return ""

    def mute(self, address: str) -> str:
        """See Prober."""
        return ""


@dataclass(frozen=True)
class _Before:
    """What there is before our lab: another one, in the registry and in the driver."""

    disk: bytes
    servers: Mapping[tuple[str, str], ServerSpec]


@functools.cache
def _other_lab() -> _Before:
    """Made once, by a server-manager of its own."""
    with tempfile.TemporaryDirectory() as folder, closing(new_disk()) as disk:
        clock = FakeClock()
        driver = FakeDriver(clock)
        database = SimDatabase(disk, lambda where: None, Disk())
        core = make_core(Path(folder), database, driver, FakeProber(), clock, Inline())
        data = {"lab": OTHER, "driver": "fake", "scaling": None, "groups": _groups(2)}
        Manager(core).put(OTHER, data)
        return _Before(disk.serialize(), {k: s.spec for k, s in driver._servers.items()})


def _groups(count: int) -> list[dict[str, object]]:
    return [
        {"name": "control", "role": "control"},
        {"name": "agent", "role": "agent", "count": count},
    ]


def draw_scaling(rng: random.Random) -> Scaling:
    """Rules as a lab file may hold them, but quicker than most."""
    least = rng.randint(1, 3)
    return Scaling(
        min=least,
        max=least + rng.randint(1, 2),
        interval_s=rng.choice((1.0, 2.0, 4.0)),
        cooldown_out_s=rng.choice((2.0, 5.0)),
        cooldown_in_s=rng.choice((3.0, 8.0)),
        evaluation_periods=rng.choice((1, 1, 2)),
        drain_s=rng.choice((2.0, 5.0)),
        standby=rng.choice((0, 0, 0, 1, 2)),
        removal=rng.choice(("power_off", "power_off", "destroy")),
    )


def simulate(seed: int, *, calm: bool = False) -> Outcome:
    """Run one seed. `calm`: without faults."""
    root = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    logging.disable(logging.CRITICAL)  # thousands of planned failures
    try:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            return World(seed, Path(folder), calm).run()
    finally:
        logging.disable(logging.NOTSET)
