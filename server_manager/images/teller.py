"""The events of one build: its steps, how far each is, what its programs print, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from labcore.clock import Clock
from labcore.errors import Interrupted, LabError
from labcore.wire.event import EventKind
from labcore.wire.image import Image, ImageStep, image_topic
from server_manager.events import EventLog

EVERY_S = 0.5  # a picture needs no more


class BuildTeller:
    """See Teller; it tells of the step that goes on, and stops it once the build was cancelled."""

    def __init__(self, image: Image, events: EventLog, clock: Clock) -> None:
        self.cancelled = threading.Event()
        self._image = image
        self._topic = image_topic(image.driver, image.name)
        self._events = events
        self._clock = clock
        self._step: ImageStep | None = None
        self._told_at = 0.0

    def check(self) -> None:
        """Raise Interrupted once the build was cancelled."""
        if self.cancelled.is_set():
            raise Interrupted(
                f"image {self._image.name!r}: cancelled",
                "the same labctl image build begins again; labctl image remove cleans up",
            )

    def progress(self, done: float, total: float) -> None:
        """See Teller."""
        self.check()
        now = self._clock.monotonic()
        if now - self._told_at >= EVERY_S or done >= total:
            self._told_at = now
            self._publish(
                f"{self._step} {done:.0f} of {total:.0f}",
                done=round(done, 1),
                total=round(total, 1),
            )

    def line(self, text: str) -> None:
        """See Teller."""
        self.check()
        self._publish(text, line=text)

    @contextmanager
    def step(self, step: ImageStep, address: str | None = None) -> Iterator[None]:
        """Tell that a step begins, and when it is done."""
        self._step, self._told_at = step, 0.0
        began = self._clock.monotonic()
        self._publish(f"{step} begun", outcome="begun", **({"address": address} if address else {}))
        yield
        seconds = self._clock.monotonic() - began
        self._publish(
            f"{step} done after {seconds:.1f} s", outcome="done", seconds=round(seconds, 3)
        )

    def end(self, state: str, problem: LabError | None) -> None:
        """Tell how the build ended."""
        data = {"run": self._image.run, "state": state}
        if problem is not None:
            data |= {"code": problem.code, "hint": problem.hint, "details": list(problem.details)}
        text = problem.message if problem else f"image {self._image.name}: {state}"
        self._events.publish(self._topic, EventKind.IMAGE, text, data=data)

    def _publish(self, text: str, **fields: object) -> None:
        data = {"run": self._image.run, "step": self._step, **fields}
        self._events.publish(self._topic, EventKind.IMAGE, f"{self._image.name}: {text}", data=data)
