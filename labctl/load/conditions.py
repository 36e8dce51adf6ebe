"""`--fail-on 'p95_ms>500'`: what a load run must not show."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from labcore.errors import UsageProblem
from labctl.load.types import LoadReport

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_FIGURES: dict[str, Callable[[LoadReport], float | None]] = {
    "sent": lambda r: r.sent,
    "ok": lambda r: r.ok,
    "rejected": lambda r: r.rejected,
    "failed": lambda r: r.failed,
    "failed_percent": lambda r: 100 * r.failed / r.sent if r.sent else None,
    "late": lambda r: r.late,
    "rps": lambda r: r.sent / r.seconds if r.seconds else None,
    "p50_ms": lambda r: r.latency.p50_ms,
    "p95_ms": lambda r: r.latency.p95_ms,
    "p99_ms": lambda r: r.latency.p99_ms,
    "max_ms": lambda r: r.latency.max_ms,
}
_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """A comparison that, where it holds, makes a run a failed one."""

    figure: str
    comparison: str
    limit: float

    def broken_by(self, report: LoadReport) -> str | None:
        """A sentence if the run shows what it must not; None if all is well.

        A figure that was not measured (no answer at all) counts as shown: silence is no success.
        """
        value = _FIGURES[self.figure](report)
        if value is None:
            return f"{self.figure} could not be measured ({self})"
        if _COMPARE[self.comparison](value, self.limit):
            return f"{self.figure} is {value:g} ({self})"
        return None

    def __str__(self) -> str:
        """As it was written."""
        return f"{self.figure}{self.comparison}{self.limit:g}"


def parse_condition(text: str) -> Condition:
    """Read `failed>0`. Raises UsageProblem with the known figures."""
    match = _CONDITION.fullmatch(text)
    if match is None or match[1] not in _FIGURES:
        known = ", ".join(_FIGURES)
        raise UsageProblem(
            f"--fail-on {text!r} is not understood", f"write failed>0; one of {known}"
        )
    return Condition(match[1], match[2], float(match[3]))
