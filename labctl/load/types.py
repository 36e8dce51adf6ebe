"""What is asked of the load generator, and what it answers. Frozen; JSON through labcore.codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.load.schedule import Schedule


@dataclass(frozen=True)
class LoadPlan:
    """What to send where."""

    url: str
    schedule: Schedule
    method: str = "GET"
    body: str | None = None
    timeout_s: float = 10.0  # from sending to the last byte of the answer
    keepalive: bool = True  # False: a connection for each request
    connections: int = 500  # at most; the wait for one counts as latency


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the *intended* moment of sending; None where nothing was measured.

    Counted are all answers, whatever their status, and timeouts at the moment they were given up:
    leaving those out would make a hanging server look fast. Percentiles are by nearest rank.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True)
class Second:
    """The requests that were meant to be sent in one second of the run, and what became of them."""

    at_s: int
    sent: int
    ok: int
    rejected: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class LoadReport:
    """What became of every request: sent = answered + failed, answered = ok + rejected."""

    url: str
    method: str
    schedule: str
    started_at: str  # RFC 3339 UTC
    seconds: float  # from the first intended moment to the last answer
    sent: int
    answered: int
    ok: int  # status below 400
    rejected: int  # status 4xx: the server worked, it did not like the request
    failed: int  # status 5xx, or no whole answer
    late: int  # sent > 20 ms after the intended moment: the generator itself was behind
    stopped: bool  # it was asked to stop before the schedule ended
    latency: Latency
    # connect-refused, connect-failed, reset, truncated, timeout, bad-answer, local, status-5xx
    failures: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    backends: Mapping[str, int] = field(default_factory=dict)  # as the balancer names them
    series: tuple[Second, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How a run stands, for those who watch it."""

    elapsed_s: float
    seconds: float  # of the whole schedule
    target_rps: float
    rps: float  # really sent, since the last Progress
    sent: int
    ok: int
    rejected: int
    failed: int
    late: int
    in_flight: int
    p95_ms: float | None  # of what ended since the last Progress
