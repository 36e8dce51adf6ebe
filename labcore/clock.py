"""Time as a parameter: the only module that reads or waits for the real clock."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the program knows of time. Intervals use `monotonic`; only records use `now`."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def now(self) -> datetime:
        """The time of day, aware, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds` (at once if not positive)."""
        ...


class SystemClock:
    """The real clock."""

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        if seconds > 0:
            time.sleep(seconds)


class FakeClock:
    """A clock that moves only when told, or slept on. For tests and simulation."""

    def __init__(self, start: float = 1000.0) -> None:
        self._seconds = start
        self._lock = threading.Lock()
        self._epoch = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=start)

    def monotonic(self) -> float:
        """See Clock."""
        return self._seconds

    def now(self) -> datetime:
        """See Clock."""
        return self._epoch + timedelta(seconds=self._seconds)

    def sleep(self, seconds: float) -> None:
        """See Clock: moves this clock on by `seconds`."""
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        with self._lock:
            self._seconds += seconds


def rfc3339(moment: datetime) -> str:
    """A time as it stands on the wire: RFC 3339, UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """The inverse of `rfc3339`; raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment.astimezone(UTC)
