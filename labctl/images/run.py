"""One build of an image as its events tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from labcore.errors import Interrupted, from_wire
from labcore.wire.event import Event

ENDS = ("ready", "broken", "cancelled")


@dataclass
class StepProgress:
    """How far one step is. `seconds` is how long it took, once it is done."""

    done: float = 0.0
    total: float = 0.0
    line: str = ""
    seconds: float | None = None


@dataclass
class ImageRun:
    """What the events of one build say so far."""

    driver: str
    name: str
    number: int  # the seq of the event that began it
    steps: dict[str, StepProgress] = field(default_factory=dict)
    ended: Event | None = None
    seen: int = 0  # the seq of the last event taken in

    def add(self, event: Event) -> None:
        """Take in the next event of the image."""
        self.seen = max(self.seen, event.seq)
        data = event.data
        if data.get("run") != self.number:
            return
        if data.get("state") in ENDS:
            self.ended = event
        elif data.get("outcome") == "begun":
            self.steps[str(data.get("step"))] = StepProgress()
        elif (step := self.steps.get(str(data.get("step")))) is not None:
            self._go_on(step, event)

    def _go_on(self, step: StepProgress, event: Event) -> None:
        data = event.data
        if data.get("outcome") == "done":
            step.seconds, step.line = _number(data.get("seconds")), ""
        elif "line" in data:
            step.line = str(data["line"])
        else:
            step.done, step.total = _number(data.get("done")), _number(data.get("total"))

    def check(self) -> None:
        """Raise what the build failed with, if it did."""
        if self.ended is None or self.ended.data["state"] == "ready":
            return
        again = "the same labctl image build begins again; labctl image remove cleans up"
        if self.ended.data["state"] == "cancelled":
            raise Interrupted(f"image {self.name!r}: stopped", again)
        data = self.ended.data
        details = data.get("details")
        wire = {
            "code": data.get("code", "failed"),
            "message": f"image {self.name!r}: {self.ended.message}",
            "hint": data.get("hint") or again,
            "details": details if isinstance(details, list) else [],
        }
        raise from_wire({"error": wire}, self.ended.message)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
