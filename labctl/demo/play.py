"""The demo itself: up, load, an agent joins, the load stops, the agent leaves, destroy.

It does what `labctl up`, `load`, `status` and `destroy` do, by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from labcore.errors import Interrupted, LabError
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import Event, EventKind
from labcore.wire.scaler import ScalerStatus
from labctl import runs
from labctl.demo.narrator import Narrator
from labctl.demo.settings import Script, choose_level
from labctl.demo.tape import Tape
from labctl.follow import Run
from labctl.load.background import BackgroundLoad
from labctl.load.types import LoadPlan
from labctl.report.recording import Recording
from labctl.resize import scaled_group
from labctl.session import Session
from labctl.wish import Wish

LOOK_S = 0.025  # the pause between two looks grows from this to 20 times as much
TOLD = (EventKind.MEMBERSHIP, EventKind.PROBLEM, EventKind.PORT)
TOLD_GATES = ("booted", "healthy")


class Play:
    """One demo of one lab."""

    def __init__(
        self,
        session: Session,
        wish: Wish,
        settings: tuple[str, ...],
        narrator: Narrator,
        script: Script,
    ) -> None:
        self._session = session
        self._wish = wish
        self._narrator = narrator
        self._script = script
        self._tape = Tape(session.clock, wish.lab, wish.driver, settings)
        self._load: BackgroundLoad | None = None
        self._status: ScalerStatus | None = None
        self._joined: list[str] = []  # nodes, since the load began
        self._removed: list[str] = []

    def perform(self) -> tuple[Recording, LabError | None]:
        """Everything but the destroy. What went wrong is given back, not raised."""
        problem: LabError | None = None
        try:
            self._acts()
        except LabError as error:
            problem = error
        except KeyboardInterrupt:
            problem = Interrupted("the demo was interrupted")
        self._end_load()
        self._tape.problem = problem.message if problem else None
        return self._tape.recording(), problem

    def destroy(self) -> None:
        """Remove the lab; safe to call whatever became of it. Raises LabError."""
        self._act("The lab is removed")
        lab = self._wish.lab
        begin = partial(self._session.manager.destroy, lab)
        runs.carry_out(self._session, lab, begin, lambda run, event: None)
        self._tell(f"lab {self._wish.lab} is gone")

    def _acts(self) -> None:
        self._act(f"Lab {self._wish.lab} comes up, driver {self._wish.driver}")
        self._up()
        self._act("Load rises")
        self._start_load()
        self._watch("an agent to join", self._script.out_limit_s, lambda: bool(self._joined))
        self._tape.mark("joined", f"{self._joined[0]} serves")
        until_s = self._tape.elapsed_s + self._script.settle_s
        limit_s = self._script.settle_s + 5
        self._watch("the load to spread", limit_s, lambda: self._tape.elapsed_s >= until_s)
        self._act("The load stops")
        self._end_load()
        self._watch("the agents to leave", self._script.in_limit_s, self._all_left)
        self._tape.mark("left", f"{self._removed[-1]} is off")

    def _up(self) -> None:
        manager = self._session.manager
        begin = partial(manager.put_lab, self._wish.lab, self._wish.body)
        runs.carry_out(self._session, self._wish.lab, begin, self._on_run_event)
        lab = manager.lab(self._wish.lab)
        group = scaled_group(lab, None)
        self._tape.group = group.name
        self._tape.scaling = group.scaling or self._tape.scaling
        text = f"the lab is up: {group.desired_count} agents behind {lab.load_balancer_url}"
        self._mark("up", text)

    def _start_load(self) -> None:
        lab = self._session.manager.lab(self._wish.lab)
        level = choose_level(scaled_group(lab, None))
        plan = LoadPlan(
            url=f"{(lab.load_balancer_url or '').rstrip('/')}/work?ms={level.ms:g}",
            schedule=level.schedule(self._script),
            method="POST",  # nginx never sends a POST again: what is lost shows
        )
        self._look()
        self._load = BackgroundLoad(plan, self._session.clock)
        self._mark(
            "load-starts",
            f"load rises to {level.rps:.0f} requests per second, each {level.ms:g} ms of CPU",
        )
        self._load.start()

    def _end_load(self) -> None:
        if self._load is None or self._tape.load is not None:
            return
        self._load.stop()
        self._tape.mark("load-stops", "the load stops")
        report = self._tape.load = self._load.wait()
        self._tell(f"{report.sent:,} requests sent, {report.failed:,} lost")

    def _all_left(self) -> bool:
        return len(self._removed) >= len(self._joined)

    def _watch(self, name: str, limit_s: float, done: Callable[[], bool]) -> None:
        """Look at everything again and again until `done`; raises TimedOut."""

        def probe() -> None:
            self._look()
            if not done():
                raise NotYet(self._evidence())

        hint = "labctl demo --keep leaves the lab; labctl explain says why it did nothing"
        clock = self._session.clock
        wait_until(probe, name=name, limit_s=limit_s, clock=clock, hint=hint, interval_s=LOOK_S)

    def _evidence(self) -> str:
        told = [g.last_decision for g in self._status.groups] if self._status else []
        reasons = [reason for made in told if made for reason in (*made.reasons, *made.vetoes)]
        return "; ".join(reasons) or "the scaler said nothing"

    def _look(self) -> None:
        """Take a sample and the new events, and show them."""
        lab = self._session.manager.lab(self._wish.lab)
        try:
            self._status = self._session.scaler(lab).status()
            self._tape.sample(self._status)
        except LabError:
            self._status = None  # it may restart; a hole in the curve shows that
        for event in self._session.manager.events(self._wish.lab, after=self._tape.last_seq):
            self._on_event(event)
        progress = self._load.progress if self._load and self._tape.load is None else None
        self._narrator.picture(self._tape.elapsed_s, self._status, progress)

    def _on_run_event(self, run: Run, event: Event) -> None:
        self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if not self._tape.keep(event):
            return
        if event.kind is EventKind.MEMBERSHIP and event.node and self._load is not None:
            change = event.data.get("change")
            if change == "joined" and event.node not in self._joined:
                self._joined.append(event.node)
            elif change == "removed":
                self._removed.append(event.node)
        text = told_text(event)
        if text:
            self._tell(text)

    def _act(self, title: str) -> None:
        self._narrator.act(self._tape.elapsed_s, title)

    def _tell(self, text: str) -> None:
        self._narrator.tell(self._tape.elapsed_s, text)

    def _mark(self, name: str, text: str) -> None:
        self._tape.mark(name, text)
        self._tell(text)


def told_text(event: Event) -> str | None:
    """The event in words, if an audience should hear of it."""
    if event.kind is EventKind.DECISION:
        action = event.data.get("action")
        return None if action == "hold" else f"the scaler decides. {event.message}"
    if event.kind is EventKind.GATE and event.data.get("gate") not in TOLD_GATES:
        return None
    if event.kind in TOLD or event.kind is EventKind.GATE:
        return event.message
    return None
