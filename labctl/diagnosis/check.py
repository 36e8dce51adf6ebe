"""One thing that was looked at, and what a list of them means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from labcore.errors import DriverUnusable, LabError

DRIVERS = "driver "  # how the name of a check of a driver begins

Verdict = Literal["ok", "warning", "bad"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. A warning stops nothing; `fix` says what to do."""

    name: str
    verdict: Verdict
    text: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """As plain values."""
        return asdict(self)


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """The report for people."""
    for check in checks:
        yield f"{check.verdict:<8} {check.name}: {check.text}"
        if check.fix:
            yield f"{'':<8} fix: {check.fix}"


def exit_code(checks: Sequence[Check]) -> int:
    """0 if all is well or only warned of, 5 if no driver can be used, 1 if something is bad."""
    drivers = [check for check in checks if check.name.startswith(DRIVERS)]
    if not any(check.verdict == "ok" for check in drivers):
        return DriverUnusable.exit_code
    others = (check for check in checks if check not in drivers)
    return LabError.exit_code if any(check.verdict == "bad" for check in others) else 0


def usable(checks: Sequence[Check], driver: str) -> bool:
    """Whether a driver was found usable."""
    return any(c.name == DRIVERS + driver and c.verdict == "ok" for c in checks)
