"""The thread that reads the meter twice a second, and the running mean it keeps."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from agent.metrics.meters import Meter
from labcore.clock import Clock
from labcore.wire.metrics import Memory

INTERVAL_S = 0.5
WINDOW_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One sample. `seq` is one more than that of the sample before."""

    seq: int
    cpu: float  # per cent, mean of the last 5 s
    memory: Memory


@dataclass(frozen=True)
class _Slice:
    ended: float
    busy_s: float
    could_s: float  # the CPU seconds that would have been 100 %


class Sampler:
    """Takes samples of one meter. `sample` belongs to one thread, the rest to everybody."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock
        self._slices: deque[_Slice] = deque()
        self._read_at: float | None = None
        self._latest: Sample | None = None
        self._first = threading.Event()
        self._failing = False

    def latest(self, *, wait_s: float = 0.0) -> Sample | None:
        """The last sample; right after the start, waits up to `wait_s` for the first one."""
        self._first.wait(wait_s)
        return self._latest

    def run(self, also: Callable[[], None]) -> None:
        """Sample for ever, twice a second, calling `also` after each. For a daemon thread."""
        while True:
            self.sample()
            also()
            self._clock.sleep(INTERVAL_S)

    def sample(self) -> None:
        """Take a sample. None is made, and `seq` stands still, if the meter cannot be read.

        Nor is one made of a slice longer than the window: then the node stood still meanwhile
        (paused, or the laptop slept), and its mean would be one over time that it did not have.
        """
        try:
            reading = self._meter.read()
        except (psutil.Error, OSError) as error:
            if not self._failing:
                log.warning("no samples: %s", error)
            self._failing = True
            return
        self._failing = False
        now, before = self._clock.monotonic(), self._read_at
        self._read_at = now
        if before is None or now - before > WINDOW_S:
            self._slices.clear()
        elif now > before:
            self._add(_Slice(now, reading.busy_s, (now - before) * self._meter.capacity))
            self._latest = Sample(self._seq() + 1, self._mean(), reading.memory)
            self._first.set()

    def _add(self, latest: _Slice) -> None:
        self._slices.append(latest)
        while self._slices[0].ended <= latest.ended - WINDOW_S:
            self._slices.popleft()

    def _mean(self) -> float:
        busy = sum(s.busy_s for s in self._slices)
        could = sum(s.could_s for s in self._slices)
        return round(min(100.0, 100.0 * busy / could), 2)

    def _seq(self) -> int:
        return self._latest.seq if self._latest else 0
