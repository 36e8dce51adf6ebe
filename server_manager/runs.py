"""Runs: a wish for a whole lab, written down first, carried out in the background, told to its end.

    wish ──▶ converging ──▶ up | down | destroyed | failed | cancelled

At most one run per lab. The number of a run is the seq of the event that told the wish.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

from labcore.errors import Conflict, Interrupted, LabError
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import EventKind
from labcore.wire.lab import Desired
from server_manager.convergence import Convergence, Run
from server_manager.core import Core
from server_manager.registry import LabRecord

_VERBS = {Desired.UP: "up", Desired.DOWN: "down", Desired.DESTROYED: "destroy"}
END_LIMIT_S = 24 * 3600.0
END_RETRY_S = 0.5  # at first; 10 s in the end
_log = logging.getLogger(__name__)


class Runs:
    """The runs that are on."""

    def __init__(self, core: Core, convergence: Convergence) -> None:
        self._core = core
        self._work: dict[Desired, Callable[[Run], None]] = {
            Desired.UP: convergence.up,
            Desired.DOWN: convergence.down,
            Desired.DESTROYED: convergence.destroy,
        }
        self._lock = threading.Lock()
        self._on: dict[str, Run] = {}

    def joined(self, lab: LabRecord, desired: Desired) -> int | None:
        """The run that is on already for the same wish; None if none is on.

        Raises Conflict if one is on for another wish.
        """
        if not lab.running:
            return None
        if lab.desired is desired:
            return lab.run
        raise Conflict(
            f"lab {lab.name!r}: `{_VERBS[lab.desired]}` is still running",
            "wait for its end, or cancel it",
        )

    def write(self, lab: LabRecord, desired: Desired) -> Run:
        """Write a wish down; call inside a transaction, then `start` after it."""
        run = self._core.events.begin_run(
            lab.name, f"{lab.name}: {_VERBS[desired]} begins", desired
        )
        self._core.labs.begin_run(lab.name, desired, run)
        return Run(lab.name, run, desired)

    def start(self, run: Run) -> None:
        """Carry a written wish out in the background."""
        _log.info("run %d: %s %s", run.number, _VERBS[run.desired], run.lab)
        with self._lock:
            self._on[run.lab] = run
        self._core.executor.start(f"{run.desired}-{run.lab}", lambda: self._carry_out(run))

    def go_on(self, lab: LabRecord) -> None:
        """Carry out what the process before this one was doing when it ended."""
        self.start(Run(lab.name, lab.run, lab.desired))

    def cancel(self, lab: str) -> None:
        """Let the run of a lab begin nothing more; nothing happens if none is on."""
        with self._lock:
            run = self._on.get(lab)
        if run is not None:
            run.cancelled.set()

    def none_is_on(self) -> bool:
        """Whether nothing is being carried out."""
        with self._lock:
            return not self._on

    def _carry_out(self, run: Run) -> None:
        state, problem = str(run.desired), None
        try:
            self._work[run.desired](run)
        except Interrupted:
            state = "cancelled"
        except LabError as error:
            state, problem = "failed", error
        except Exception as error:
            _log.exception("run %d of lab %s", run.number, run.lab)
            state, problem = "failed", LabError(f"internal error: {error!r}", "see the log")
        try:
            self._end_for_sure(run, state, problem)
        finally:
            with self._lock:
                self._on.pop(run.lab, None)

    def _end_for_sure(self, run: Run, state: str, problem: LabError | None) -> None:
        """Until it is written, the lab converges for ever and every later wish would join this."""

        def write() -> None:
            try:
                self._end(run, state, problem)
            except sqlite3.OperationalError as error:  # the disk is full, say
                _log.error("run %d: its end cannot be written: %s", run.number, error)
                raise NotYet(str(error)) from error

        wait_until(
            write,
            name=f"the end of run {run.number} of lab {run.lab} to be written",
            limit_s=END_LIMIT_S,
            clock=self._core.clock,
            interval_s=END_RETRY_S,
        )

    def _end(self, run: Run, state: str, problem: LabError | None) -> None:
        text = f"{run.lab}: {state}" + (f": {problem.message}" if problem else "")
        data: dict[str, object] = {"run": run.number, "state": state}
        if problem is not None:
            data.update(code=problem.code, message=problem.message, hint=problem.hint)
            data["details"] = list(problem.details)
        _log.info("run %d: %s", run.number, text)
        with self._core.database.transaction():
            self._core.labs.end_run(run.lab, problem.message if problem else None)
            self._core.events.publish(run.lab, EventKind.LAB, text, data=data)
