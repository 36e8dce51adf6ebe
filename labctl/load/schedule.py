"""When requests are sent: stages of a rate, and the moments that follow from them. Pure.

    SCHEDULE = STAGE {"," STAGE}
    STAGE    = RATE ":" DURATION             hold a rate             50:10s
             | RATE ":" RATE ":" DURATION    a straight line         0:200:30s
    DURATION = NUMBER ["ms" | "s" | "m"]     without a unit: seconds

RATE is requests per second. Between stages the rate jumps.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from labcore.errors import UsageProblem

_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
_HINT = "stages look like 50:10s (hold 50 per second) or 0:200:30s (ramp), joined by commas"
MOST_RATE = 100_000.0
MOST_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Stage:
    """A rate that goes in a straight line from `begin` to `end` requests/s during `seconds`."""

    begin: float
    end: float
    seconds: float

    def sends(self) -> float:
        """The integral of the rate."""
        return (self.begin + self.end) / 2 * self.seconds

    def rate(self, at_s: float) -> float:
        """Requests per second, `at_s` seconds after the stage began."""
        return self.begin + (self.end - self.begin) * at_s / self.seconds

    def moment(self, sends: float) -> float:
        """Seconds after which the integral reaches `sends`, which lies within this stage.

        The root of begin·t + slope·t²/2 = sends, in the form that does not cancel near slope 0.
        """
        slope = (self.end - self.begin) / self.seconds
        root = math.sqrt(max(0.0, self.begin * self.begin + 2 * slope * sends))
        return min(self.seconds, 2 * sends / (self.begin + root)) if sends > 0 else 0.0


@dataclass(frozen=True)
class Schedule:
    """Stages, one after the other."""

    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return math.fsum(stage.seconds for stage in self.stages)

    def count(self) -> int:
        """How many requests it sends: the integral of the rate, rounded (a half is dropped)."""
        return max(0, math.ceil(math.fsum(stage.sends() for stage in self.stages) - 0.5))

    def send_times(self) -> Iterator[float]:
        """`count()` moments, in seconds from the start, never falling.

        Request k (from 0) is sent when the integral of the rate reaches k + 1/2, so that a stage
        boundary or a rounding error never adds or takes a request.
        """
        ends = list(itertools.accumulate((stage.sends() for stage in self.stages), initial=0.0))
        begins = list(itertools.accumulate((s.seconds for s in self.stages), initial=0.0))
        index, last = 0, 0.0
        for k in range(self.count()):
            target = k + 0.5
            while index + 1 < len(self.stages) and ends[index + 1] < target:
                index += 1
            at_s = begins[index] + self.stages[index].moment(target - ends[index])
            last = max(last, at_s)
            yield last

    def rate(self, at_s: float) -> float:
        """Requests per second that it asks for at a moment; 0 outside of it."""
        ends = list(itertools.accumulate(stage.seconds for stage in self.stages))
        index = bisect.bisect_right(ends, at_s)
        if at_s < 0 or index >= len(self.stages):
            return 0.0
        return self.stages[index].rate(at_s - (ends[index - 1] if index else 0.0))

    def __str__(self) -> str:
        """The text from which `parse_schedule` makes an equal schedule."""
        return ",".join(_stage_text(stage) for stage in self.stages)


def constant(rps: float, seconds: float) -> Schedule:
    """One rate, held. Raises UsageProblem as `parse_schedule` does."""
    return _checked((Stage(rps, rps, seconds),), f"{rps:g}:{seconds:g}s")


def parse_schedule(text: str) -> Schedule:
    """Read a schedule (grammar above). Raises UsageProblem, also for one that sends nothing."""
    return _checked(tuple(_parse_stage(part.strip()) for part in text.split(",")), text)


def parse_duration(text: str) -> float:
    """Seconds in `500ms`, `30s`, `2m` or `30`. Raises UsageProblem."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageProblem(f"{text!r} is not a duration", "write 500ms, 30s or 2m")
    return float(match[1]) * _UNITS_S[match[2]]


def _parse_stage(text: str) -> Stage:
    *rates, duration = text.split(":")
    if len(rates) not in (1, 2):
        raise UsageProblem(f"{text!r} is not a stage of a schedule", _HINT)
    try:
        begin, end = float(rates[0]), float(rates[-1])
    except ValueError:
        raise UsageProblem(f"{text!r}: the rate is not a number", _HINT) from None
    return Stage(begin, end, parse_duration(duration))


def _checked(stages: tuple[Stage, ...], text: str) -> Schedule:
    for stage in stages:
        if not (0 <= stage.begin <= MOST_RATE and 0 <= stage.end <= MOST_RATE):
            raise UsageProblem(f"{text!r}: a rate lies between 0 and {MOST_RATE:g} per second")
        if not 0 < stage.seconds <= MOST_SECONDS:
            raise UsageProblem(f"{text!r}: a stage lasts more than 0 s, at most {MOST_SECONDS:g} s")
    schedule = Schedule(stages)
    if schedule.count() == 0:
        raise UsageProblem(f"{text!r}: this schedule sends no request", _HINT)
    return schedule


def _stage_text(stage: Stage) -> str:
    rates = (stage.begin,) if stage.begin == stage.end else (stage.begin, stage.end)
    return ":".join(_number(value) for value in (*rates, stage.seconds)) + "s"


def _number(value: float) -> str:
    """The shortest text that is the same number again, without an exponent."""
    return format(Decimal(repr(value)).normalize(), "f")
