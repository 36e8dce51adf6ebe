"""A trace of requests per minute, made into demand: how many nodes' worth of work at each tick."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labcore.errors import NotFound, UsageProblem

TIME, REQUESTS = "minute_utc", "requests"
QUANTILE = 0.999  # the minute that `peak_nodes` are needed for


@dataclass(frozen=True)
class Trace:
    """Requests of each minute, oldest first. `begins` are those minutes, which may have gaps."""

    begins: tuple[datetime, ...]
    requests: tuple[float, ...]


@dataclass(frozen=True)
class Demand:
    """Work at each tick, in nodes that it keeps 100 % busy; `at` is the trace's own time."""

    work: tuple[float, ...]
    at: tuple[datetime, ...]


def read_trace(path: Path, hours: tuple[int, int] = (0, 24)) -> Trace:
    """The minutes of a CSV file (columns `minute_utc`, `requests`) from hour `hours[0]` to before
    `hours[1]` of each day.

    Raises NotFound, and UsageProblem with the line that cannot be used, or with none left.
    """
    begins, requests = [], []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                minute, count = _row(row, f"{path}, line {number}")
                if hours[0] <= minute.hour < hours[1]:
                    begins.append(minute)
                    requests.append(count)
    except FileNotFoundError as error:
        raise NotFound(f"there is no trace {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"cannot read the trace {path}: {error}") from error
    if len(begins) < 2:
        raise UsageProblem(f"{path}: fewer than two minutes between {hours[0]} and {hours[1]} h")
    return Trace(tuple(begins), tuple(requests))


def _row(row: dict[str, str | None], where: str) -> tuple[datetime, float]:
    try:
        minute = datetime.fromisoformat(row[TIME] or "")
        count = float(row[REQUESTS] or "")
    except (KeyError, ValueError) as error:
        raise UsageProblem(
            f"{where}: not a minute and a number", f"the columns are {TIME},{REQUESTS}"
        ) from error
    if not 0.0 <= count < math.inf:
        raise UsageProblem(f"{where}: {count} requests")
    zone = minute.tzinfo or UTC
    return minute.replace(tzinfo=zone).astimezone(UTC), count


def peak(trace: Trace) -> float:
    """Requests of the busiest minute but for one in a thousand (nearest rank)."""
    ranked = sorted(trace.requests)
    return ranked[max(0, math.ceil(QUANTILE * len(ranked)) - 1)]


def demand(trace: Trace, *, node_requests: float, speed: float, interval_s: float) -> Demand:
    """The trace replayed `speed` times faster, looked at every `interval_s` of virtual time.

    `node_requests` a minute keep one node 100 % busy. Between two minutes the demand runs straight.
    """
    step = speed * interval_s / 60.0
    ticks = math.floor((len(trace.requests) - 1) / step + 1e-9)
    work, at = [], []
    for tick in range(ticks):
        minute, part = divmod(tick * step, 1.0)
        here = int(minute)
        low, high = trace.requests[here], trace.requests[here + 1]
        work.append((low + (high - low) * part) / node_requests)
        at.append(trace.begins[here] + timedelta(minutes=part))
    return Demand(tuple(work), tuple(at))
