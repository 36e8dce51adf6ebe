"""A load run in a thread of its own, so that its owner can watch, narrate, and stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from labcore.clock import Clock
from labcore.errors import LabError
from labctl.load.engine import check_plan, run_load
from labctl.load.types import LoadPlan, LoadReport, Progress


class BackgroundLoad:
    """Runs a plan from `start` on. `on_progress` is called in its thread."""

    def __init__(
        self,
        plan: LoadPlan,
        clock: Clock,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        check_plan(plan)
        self._plan = plan
        self._clock = clock
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._report: LoadReport | None = None
        self._problem: BaseException | None = None
        self._progress: Progress | None = None
        # A daemon: an owner that dies must not be held up by unanswered requests.
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin. Call it once."""
        self._thread.start()

    @property
    def progress(self) -> Progress | None:
        """How it stood about a second ago at most; None in the first second."""
        return self._progress

    def stop(self) -> None:
        """Send nothing more; what was sent may still be answered. May be called twice."""
        self._stop.set()

    def wait(self) -> LoadReport:
        """Wait for the end: of the schedule, or after `stop` at most one timeout. Then the report.

        May be called twice. A run that was never started (somebody was interrupted) sent nothing.
        Raises LabError if the run itself broke.
        """
        if self._thread.ident is None and not self._ended.is_set():
            self._stop.set()
            self._run()
        self._ended.wait()
        if self._report is None:
            raise LabError(f"the load run broke: {self._problem!r}") from self._problem
        return self._report

    def _run(self) -> None:
        try:
            self._report = run_load(
                self._plan, self._clock, on_progress=self._keep, stop=self._stop
            )
        except BaseException as error:
            self._problem = error
        finally:
            self._ended.set()

    def _keep(self, progress: Progress) -> None:
        self._progress = progress
        self._on_progress(progress)
