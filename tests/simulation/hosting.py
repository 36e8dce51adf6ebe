"""The server-manager of the simulation: its real core on a database that dies with it."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from labcore.clock import Clock
from labcore.codec import decode, encode
from labcore.errors import Conflict, LabError, Unreachable
from labcore.wire.event import Event
from labcore.wire.lab import Desired, Lab, Mode
from server_manager.core import Core, Drivers
from server_manager.database import Database
from server_manager.drivers.base import ServerRef
from server_manager.drivers.fake import FakeDriver
from server_manager.events import EventLog
from server_manager.executors import Executor, Task, outcome
from server_manager.images.records import ImageRecords
from server_manager.journal import Journal, Operation
from server_manager.manager import Manager
from server_manager.paths import StatePaths
from server_manager.ports import Ports
from server_manager.probes import Prober
from server_manager.registry import Labs, Servers, Settings
from server_manager.routes_labs import GroupRequest
from server_manager.secrets import Secrets
from server_manager.ssh_keys import SshKeys
from tests.simulation.deaths import Crossings
from tests.simulation.loop import Killed, Lock, Loop, Process
from tests.simulation.machines import SimDriver

T = TypeVar("T")
WRITES = ("INSERT", "UPDATE", "DELETE")
WRITTEN = ("after a write", "after a journal's begin", "after a journal's end")


def new_disk() -> sqlite3.Connection:
    """An empty one."""
    disk = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    disk.row_factory = sqlite3.Row
    disk.execute("PRAGMA foreign_keys = ON")
    return disk


class Disk:
    """What may go wrong when the server-manager writes; `fired` counts how often it did."""

    def __init__(self, fired: Counter[str] | None = None) -> None:
        self.full = False
        self._fired = Counter() if fired is None else fired

    def check(self) -> None:
        """Raise what SQLite raises when it cannot write."""
        if self.full:
            self._fired["the server-manager's disk is full"] += 1
            raise sqlite3.OperationalError("database or disk is full")


class SimDatabase(Database):
    """A Database in memory, whose process may die before and after everything it writes.

    `disk` is what outlives a process: a connection, in which only committed changes are left.
    """

    def __init__(
        self, disk: sqlite3.Connection, crossing: Callable[[str], None], faults: Disk
    ) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = disk
        self._crossing: Callable[[str], None] = lambda where: None
        self._disk = Disk()
        self._writes = "a write"
        self._upgrade(Path("memory"))
        self._crossing, self._disk = crossing, faults

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """See Database."""
        if self._depth:
            with super().transaction() as connection:
                yield connection
            return
        self.writes("a write")
        with super().transaction() as connection:
            yield connection
            self._disk.check()
            self._crossing(f"before the commit of {self._writes}")
        self._crossing(f"after {self._writes}")

    def writes(self, what: str) -> None:
        """Within a transaction: name what is written in it. The process may die there."""
        self._writes = what
        self._crossing(f"before {what}")

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """See Database."""
        if self._depth or not sql.startswith(WRITES):
            return super().rows(sql, *values)
        self._crossing("before a write")
        self._disk.check()
        found = super().rows(sql, *values)
        self._crossing("after a write")
        return found


class SimJournal(Journal):
    """A Journal of which it is known when it writes."""

    def __init__(self, database: SimDatabase, clock: Clock) -> None:
        super().__init__(database, clock)
        self._sim = database

    def begin(self, lab: str, node: str, operation: Operation) -> int:
        """See Journal."""
        with self._sim.transaction():
            self._sim.writes("a journal's begin")
            return super().begin(lab, node, operation)

    def end(self, seq: int, error: str | None = None) -> None:
        """See Journal."""
        with self._sim.transaction():
            self._sim.writes("a journal's end")
            super().end(seq, error)


class SimExecutor:
    """Executor on the loop: background work is a task of the server-manager's process."""

    def __init__(self, loop: Loop, process: Process, note: Callable[[str], None]) -> None:
        self._loop = loop
        self._process = process
        self._note = note

    def start(self, name: str, task: Task) -> None:
        """See Executor. What goes wrong there ends one thread, and nobody hears of it."""

        def work() -> None:
            try:
                task()
            except Exception as error:
                self._note(f"{name} ended with {type(error).__name__}: {error}")

        cause = "recovery" if name.startswith("finish-") else "run"
        self._loop.spawn(self._process, work, cause=cause)

    def gather(self, tasks: Sequence[Task]) -> tuple[LabError, ...]:
        """See Executor."""
        found = self._loop.gather([lambda t=task: outcome(t) for task in tasks])  # type: ignore[misc]
        return tuple(error for error in found if error is not None)

    def lock(self) -> Lock:
        """See Executor. Not a real one: who waits for that keeps everybody else from going on."""
        return Lock(self._loop)


def make_core(
    folder: Path,
    database: SimDatabase,
    driver: FakeDriver,
    prober: Prober,
    clock: Clock,
    executor: Executor,
) -> Core:
    """server_manager.core.make_core with another database."""
    paths = StatePaths(folder)
    paths.make()
    core = Core(
        paths=paths,
        database=database,
        labs=Labs(database),
        servers=Servers(database),
        settings=Settings(database),
        events=EventLog(database, clock),
        images=ImageRecords(database),
        journal=SimJournal(database, clock),
        ports=Ports(database, is_free=lambda port: True),
        secrets=Secrets(paths),
        ssh_keys=SshKeys(paths),
        drivers=Drivers(("fake",), lambda name, settings: driver),
        prober=prober,
        clock=clock,
        executor=executor,
    )
    for lab in core.labs.all():
        core.secrets.of(lab.name)
    return core


class Host:
    """The machine on which the server-manager runs, dies and is started again."""

    def __init__(
        self,
        folder: Path,
        loop: Loop,
        rng: random.Random,
        note: Callable[[str], None],
        fired: Counter[str],
    ) -> None:
        self.folder = folder
        self.loop = loop
        self.disk = new_disk()
        self.disk_faults = Disk(fired)
        self.effect_watch: Callable[[str, ServerRef], None] = lambda operation, ref: None
        self.driver = SimDriver(loop, rng, self, fired)
        self.prober: Prober
        self.on_start: Callable[[], None] = lambda: None  # before each start but the first
        self.on_written: Callable[[], None] = lambda: None  # after each write, if it survives that
        self.process: Process | None = None
        self.manager: Manager
        self.crossings = Crossings("the server-manager", self._die, fired)
        self.restart_s: Callable[[], float] = lambda: rng.uniform(0.2, 8.0)
        self._note = note

    # ------------------------------------------------------------------ life and death

    def start(self) -> None:
        """Start the server-manager; it finishes what the one before it had begun."""
        if self.process is not None and self.process.alive:
            return
        self.process = process = self.loop.process("the server-manager")
        self.manager = Manager(self._core(process))
        self.loop.spawn(process, self._recover, cause="recovery")

    def _recover(self) -> None:
        try:
            self.manager.recover()
        except sqlite3.Error as error:
            self._note(f"the server-manager cannot start: {error}")
            self.kill()
            raise Killed from error

    def _core(self, process: Process) -> Core:
        database = SimDatabase(self.disk, self._crossing_of(process), self.disk_faults)
        executor = SimExecutor(self.loop, process, self._note)
        return make_core(self.folder, database, self.driver, self.prober, self.loop.clock, executor)

    def kill(self) -> None:
        """Let the server-manager die now, and come back after a while."""
        if self.process is not None and self.process.alive:
            self._note("the server-manager dies")
            self.crossings.forget()
            self.loop.kill(self.process)
            self.loop.later(self.restart_s(), self._come_back)

    def _come_back(self) -> None:
        self._note("the server-manager starts")
        self.on_start()
        self.start()

    def _crossing_of(self, process: Process) -> Callable[[str], None]:
        def crossing(where: str) -> None:
            if not process.alive:
                raise Killed
            if self.loop.current is not None:
                self.crossing(where)

        return crossing

    def _die(self, where: str) -> None:
        self._note(f"(died {where})")
        self.kill()

    def crossing(self, where: str) -> None:
        """See Watcher."""
        self.crossings.cross(where)
        if where in WRITTEN:
            self.on_written()

    def effect(self, operation: str, ref: ServerRef) -> None:
        """See Watcher."""
        self.effect_watch(operation, ref)

    # ------------------------------------------------------------------ calls

    def call(self, work: Callable[[], T], *, cause: str, timeout_s: float = 4.0) -> T:
        """Of a task: a call as it goes over HTTP. Raises LabError."""
        return self.loop.call(self.process, work, timeout_s=timeout_s, cause=cause)


class Client:
    """hands.Manager without HTTP: what the routes do for the scaler of one lab."""

    def __init__(self, host: Host, lab: str, fired: Counter[str]) -> None:
        self._fired = fired
        self.unreachable = False
        self.cuts = 0  # so many answers are lost: what was asked for is done
        self.note: Callable[[str], None] = lambda text: None
        self._host = host
        self._lab = lab
        self._asked = 0

    def lab(self, lab: str) -> Lab:
        """See hands.Manager."""

        def work() -> Lab:
            self._host.manager.power.heard_from_scaler(lab)
            return self._host.manager.lab(lab)

        if self.answers_at_once:
            return self._travelled(work())  # the same without a switch of threads, which is costly
        return self._travelled(self._call(work))

    @property
    def answers_at_once(self) -> bool:
        """Whether asking for the lab does not wait for anything."""
        process = self._host.process
        is_well = not (self._host.driver.may_hang or self.unreachable or self.cuts)
        return is_well and process is not None and process.alive

    def _travelled(self, lab: Lab) -> Lab:
        """As JSON would carry it, now and then: it is costly, and nothing can change a Lab."""
        self._asked += 1
        return decode(Lab, encode(lab)) if self._asked % 8 == 1 else lab

    def set_group(
        self, lab: str, group: str, *, desired_count: int | None = None, mode: Mode | None = None
    ) -> None:
        """See hands.Manager. Its caller holds a real lock meanwhile, so that it never sleeps."""
        manager = self._host.manager
        self._check_reachable()
        if self._host.process is None or not self._host.process.alive:
            raise Unreachable("connection refused")
        wish = decode(GroupRequest, encode(GroupRequest(desired_count, mode)))
        self._check_up(lab)
        try:
            manager.set_group(lab, group, wish.desired_count, wish.mode)
        except Killed:
            raise Unreachable("connection reset") from None
        except sqlite3.Error as error:
            raise LabError(f"internal error: {error}") from error
        self._check_uncut()

    def _check_up(self, lab: str) -> None:
        if self._host.manager.core.labs.get(lab).desired is not Desired.UP:
            raise Conflict(f"lab {lab!r} is not to be up")

    def power(self, server: str, action: str) -> str:
        """See hands.Manager."""

        def work() -> str:
            self._check_up(self._lab)
            power = self._host.manager.power
            act = power.on if action == "on" else power.off
            act(power.find(server, self._lab), by_scaler=True)
            return "done"

        return self._call(work, timeout_s=90.0)

    def server_action(self, lab: str, name: str, action: str) -> None:
        """See hands.Manager."""

        def work() -> None:
            self._check_up(lab)
            power = self._host.manager.power
            act = power.standby if action == "standby" else power.pause_standby
            act(power.find(name, lab))

        self._call(work, timeout_s=90.0)

    def post_event(self, event: Event) -> None:
        """See hands.Manager."""
        self.note(f"told: {event.message}")

        def work() -> int:
            self._check_up(event.lab)
            return self._host.manager.core.events.add(decode(Event, encode(event)))

        self._call(work)

    def _call(self, work: Callable[[], T], timeout_s: float = 4.0) -> T:
        self._check_reachable()
        result = self._host.call(work, cause="scaler", timeout_s=timeout_s)
        self._check_uncut()
        return result

    def _check_reachable(self) -> None:
        if self.unreachable:
            self._fired["the server-manager is not reached"] += 1
            raise Unreachable("no route to the server-manager")

    def _check_uncut(self) -> None:
        if self.cuts:
            self.cuts -= 1
            self._fired["the server-manager's answer is cut"] += 1
            raise Unreachable("the connection was closed before its answer")
