"""The clock of this machine: what can be said of it without asking another one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from labctl.diagnosis.check import Check
from labctl.diagnosis.facts import Facts

WRITTEN = datetime(2025, 1, 1, tzinfo=UTC)  # before this program was
SLACK = timedelta(minutes=1)


def examine(facts: Facts, now: datetime) -> Iterator[Check]:
    """Whether it can be right, and whether it went back since we last wrote a file."""
    if now < WRITTEN:
        yield Check(
            "clock", "bad", f"it is not {now:%Y-%m-%d}", "set the date: TLS and logs need it"
        )
    elif facts.newest_file is not None and facts.newest_file > now + SLACK:
        back = facts.newest_file - now
        yield Check(
            "clock",
            "warning",
            f"it went back by {back.total_seconds():.0f} s since the state was last written",
            "ages that labctl shows are wrong until then; set the clock, if it is not right now",
        )
    elif facts.synchronized == "no":
        yield Check(
            "clock",
            "warning",
            f"{now:%Y-%m-%d %H:%M} UTC, but nobody keeps it right",
            "sudo timedatectl set-ntp true",
        )
    else:
        yield Check("clock", "ok", f"{now:%Y-%m-%d %H:%M} UTC")
