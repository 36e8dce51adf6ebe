"""Records a run while it goes on: events, samples of the scaler, and the moments with a name."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from labcore.clock import Clock, rfc3339
from labcore.wire.event import Event
from labcore.wire.lab import Scaling
from labcore.wire.scaler import ScalerStatus
from labctl.load.types import LoadReport
from labctl.report.recording import Mark, Recording, Sample, take_sample


@dataclass
class Tape:
    """What was seen so far. Begins when it is made."""

    clock: Clock
    lab: str
    driver: str
    settings: tuple[str, ...]
    group: str = "agent"
    scaling: Scaling = field(default_factory=Scaling)
    load: LoadReport | None = None
    problem: str | None = None
    events: dict[int, Event] = field(default_factory=dict)  # by seq
    samples: list[Sample] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        self._zero = self.clock.monotonic()
        self._began_at = rfc3339(self.clock.now())

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self.clock.monotonic() - self._zero

    @property
    def last_seq(self) -> int:
        """The newest event on it."""
        return max(self.events, default=0)

    def keep(self, event: Event) -> bool:
        """Take an event; False if it is on the tape already."""
        new = event.seq not in self.events
        self.events[event.seq] = event
        return new

    def sample(self, status: ScalerStatus) -> None:
        """Take what the scaler said, unless it says the same moment again."""
        if not self.samples or self.samples[-1].at < status.at:
            self.samples.append(take_sample(status, self.group))

    def mark(self, name: str, text: str) -> None:
        """Give this moment a name."""
        self.marks.append(Mark(rfc3339(self.clock.now()), name, text))

    def recording(self) -> Recording:
        """All of it, up to now."""
        return Recording(
            title="labctl demo",
            lab=self.lab,
            driver=self.driver,
            group=self.group,
            began_at=self._began_at,
            ended_at=rfc3339(self.clock.now()),
            scaling=self.scaling,
            settings=self.settings,
            machine=machine_facts(),
            events=tuple(self.events[seq] for seq in sorted(self.events)),
            samples=tuple(self.samples),
            marks=tuple(self.marks),
            load=self.load,
            problem=self.problem,
        )


def machine_facts() -> Mapping[str, str]:
    """What a reader of a report must know of the machine. No names, no addresses."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "CPUs": str(psutil.cpu_count() or "unknown"),
        "memory": f"{memory:.1f} GiB",
        "Python": platform.python_version(),
    }
