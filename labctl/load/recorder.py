"""The books of one run: each request enters once when it is sent and once when it has ended."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from labctl.load.types import Latency, LoadPlan, LoadReport, Progress, Second

LATE_S = 0.020  # above what a busy laptop's timers are off by


@dataclass(frozen=True)
class Outcome:
    """How one request ended: a status, or else the cause why there is none."""

    status: int | None = None
    cause: str | None = None
    backend: str | None = None


@dataclass
class _Bucket:
    sent: int = 0
    ok: int = 0
    rejected: int = 0
    failed: int = 0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))


class Recorder:
    """Counts. Not thread-safe: one event loop writes and reads it. Keeps 8 bytes per request."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._total = _Bucket()
        self._seconds: dict[int, _Bucket] = {}
        self._recent = array("d")
        self._recent_sent = 0
        self._recent_from_s = 0.0
        self._last_end_s = 0.0
        self._late = 0
        self._failures: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._backends: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """How many requests have been sent and have not ended."""
        total = self._total
        return total.sent - total.ok - total.rejected - total.failed

    def sent(self, intended_s: float, sent_s: float) -> None:
        """A request was sent at `sent_s` that was due at `intended_s` (seconds from the start)."""
        self._total.sent += 1
        self._recent_sent += 1
        self._seconds.setdefault(int(intended_s), _Bucket()).sent += 1
        if sent_s - intended_s > LATE_S:
            self._late += 1

    def ended(self, intended_s: float, ended_s: float, outcome: Outcome) -> None:
        """The request that was due at `intended_s` has ended."""
        self._last_end_s = max(self._last_end_s, ended_s)
        second = self._seconds[int(intended_s)]
        if outcome.status is not None or outcome.cause == "timeout":
            for latencies in (second.latencies_s, self._total.latencies_s, self._recent):
                latencies.append(ended_s - intended_s)
        if outcome.status is not None:
            self._statuses[str(outcome.status)] += 1
        if outcome.backend is not None:
            self._backends[outcome.backend] += 1
        for bucket in (second, self._total):
            self._count(bucket, outcome)
        if _failed(outcome):
            self._failures[outcome.cause or f"status-{outcome.status}"] += 1

    def _count(self, bucket: _Bucket, outcome: Outcome) -> None:
        if _failed(outcome):
            bucket.failed += 1
        elif outcome.status is not None and outcome.status >= 400:
            bucket.rejected += 1
        else:
            bucket.ok += 1

    def progress(self, elapsed_s: float) -> Progress:
        """How it stands; begins a new interval for `rps` and `p95_ms`."""
        since = elapsed_s - self._recent_from_s
        recent = latency(self._recent)
        shown = Progress(
            elapsed_s=elapsed_s,
            seconds=self._plan.schedule.seconds,
            target_rps=self._plan.schedule.rate(elapsed_s),
            rps=self._recent_sent / since if since > 0 else 0.0,
            sent=self._total.sent,
            ok=self._total.ok,
            rejected=self._total.rejected,
            failed=self._total.failed,
            late=self._late,
            in_flight=self.in_flight,
            p95_ms=recent.p95_ms,
        )
        self._recent, self._recent_sent, self._recent_from_s = array("d"), 0, elapsed_s
        return shown

    def report(self, started_at: str, stopped: bool) -> LoadReport:
        """The whole account. Call it when nothing is in flight any more."""
        total = self._total
        return LoadReport(
            url=self._plan.url,
            method=self._plan.method,
            schedule=str(self._plan.schedule),
            started_at=started_at,
            seconds=round(self._last_end_s, 3),
            sent=total.sent,
            answered=total.ok + total.rejected,
            ok=total.ok,
            rejected=total.rejected,
            failed=total.failed,
            late=self._late,
            stopped=stopped,
            latency=latency(total.latencies_s),
            failures=dict(self._failures.most_common()),
            statuses=dict(sorted(self._statuses.items())),
            backends=dict(sorted(self._backends.items())),
            series=tuple(self._second(at_s) for at_s in range(max(self._seconds, default=-1) + 1)),
        )

    def _second(self, at_s: int) -> Second:
        bucket = self._seconds.get(at_s, _Bucket())
        times = latency(bucket.latencies_s)
        return Second(
            at_s, bucket.sent, bucket.ok, bucket.rejected, bucket.failed, times.p50_ms, times.p95_ms
        )


def _failed(outcome: Outcome) -> bool:
    return outcome.status is None or outcome.status >= 500


def latency(seconds: Sequence[float]) -> Latency:
    """Nearest-rank percentiles of some latencies in seconds, as milliseconds."""
    if not seconds:
        return Latency()
    ordered = sorted(seconds)

    def rank(percent: float) -> float:
        index = max(0, math.ceil(percent / 100 * len(ordered)) - 1)
        return round(ordered[index] * 1000, 3)

    return Latency(rank(50), rank(95), rank(99), rank(100))
