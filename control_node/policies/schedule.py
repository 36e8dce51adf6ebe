"""`schedule`: a timetable, for a teacher who knows when the class begins.

    policy: schedule
    options:
      timezone: Europe/Berlin
      otherwise: 2
      rows:
        - {from: "09:45", to: "11:30", count: 5, days: [mon, wed]}

Where rows overlap, the largest count holds. A row whose `to` is not after its `from` ends on the
next day (`days` are those on which it begins). A change is one step; the scaler still removes one
node after the other, and none while metrics are missing.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from control_node.policies.settings import made, options
from control_node.policies.situation import Proposal, Situation, nodes
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True)
class Row:
    """`count` nodes from `begins` to before `ends`: minutes of the day, in the timetable's zone."""

    begins: int
    ends: int
    count: int
    days: tuple[str, ...]

    def holds(self, at: datetime) -> bool:
        """Whether this row is the one for that moment, given in the timetable's zone."""
        minute = at.hour * 60 + at.minute
        today, yesterday = DAYS[at.weekday()], DAYS[at.weekday() - 1]
        if self.begins < self.ends:
            return today in self.days and self.begins <= minute < self.ends
        return (today in self.days and minute >= self.begins) or (
            yesterday in self.days and minute < self.ends
        )


@dataclass(frozen=True)
class ScheduleOptions:
    """What `scaling.options` may hold."""

    rows: tuple[Mapping[str, object], ...]  # {from, to, count, days?}, as in the example above
    otherwise: int | None = None  # outside all rows; None: the minimum
    timezone: str = "UTC"


def check(scaling: Scaling) -> None:
    """Raise UsageProblem for a timetable that cannot be followed."""
    chosen = options(ScheduleOptions, scaling)
    _zone_of(chosen)
    counts = [row.count for row in _rows(chosen)]
    for count in (*counts, *([] if chosen.otherwise is None else [chosen.otherwise])):
        if not scaling.min <= count <= scaling.max:
            raise UsageProblem(
                f"scaling.options: {count} nodes are not within {scaling.min}..{scaling.max}",
                "change the timetable, or scaling.min and scaling.max",
            )


def propose(seen: Situation) -> Proposal:
    """The count that the timetable has for this moment."""
    if seen.observation.at is None:
        return Proposal(seen.desired, ("the time of day is not known",))
    chosen = options(ScheduleOptions, seen.scaling)
    at = seen.observation.at.astimezone(made(_zone_of, chosen))
    moment = f"{DAYS[at.weekday()]} {at:%H:%M} ({chosen.timezone})"
    held = [row for row in made(_rows, chosen) if row.holds(at)]
    if held:
        row = max(held, key=lambda candidate: candidate.count)
        reason = f"{moment} is within {_clock(row.begins)}-{_clock(row.ends)}"
        return Proposal(row.count, (f"{reason}: {nodes(row.count)}",))
    count = seen.scaling.min if chosen.otherwise is None else chosen.otherwise
    return Proposal(count, (f"{moment} is outside the timetable: {nodes(count)}",))


def _rows(chosen: ScheduleOptions) -> list[Row]:
    """The timetable. Raises UsageProblem."""
    return [_row(row, f"scaling.options.rows[{number}]") for number, row in enumerate(chosen.rows)]


def _row(row: Mapping[str, object], where: str) -> Row:
    unknown = sorted(set(row) - {"from", "to", "count", "days"})
    if unknown:
        raise UsageProblem(f"{where}: unknown field {unknown[0]!r}", "known: from, to, count, days")
    count, days = row.get("count"), row.get("days", list(DAYS))
    if type(count) is not int:
        raise UsageProblem(f"{where}.count: expected a whole number, got {count!r}")
    if not isinstance(days, list) or not days or not set(days) <= set(DAYS):
        raise UsageProblem(f"{where}.days: {days!r} is not a list of {', '.join(DAYS)}")
    begins, ends = (
        _minutes(row.get("from"), f"{where}.from"),
        _minutes(row.get("to"), f"{where}.to"),
    )
    return Row(begins, ends, count, tuple(days))


def _minutes(value: object, where: str) -> int:
    found = CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise UsageProblem(f'{where}: {value!r} is not a time like "09:45"', "quote it in YAML")
    return int(found[1]) * 60 + int(found[2])


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _zone_of(chosen: ScheduleOptions) -> tzinfo:
    name = chosen.timezone
    if name == "UTC":  # also where no time zone data are installed
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageProblem(
            f"scaling.options.timezone: {name!r} is not known here", 'a name like "Europe/Berlin"'
        ) from error
